"""Envoy and the app as processes, and what is left of those of an earlier sidecar."""
