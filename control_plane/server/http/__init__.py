"""HTTP/1.1: health, readiness and metrics."""
