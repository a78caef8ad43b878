"""Envoy and the app as processes, and the processes that an earlier sidecar left."""
