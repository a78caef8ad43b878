"""The process next to an app: it gets an identity, starts Envoy, and keeps both current."""

from __future__ import annotations

from control_plane.sidecar.options import (
    MIN_ENVOY_MEMORY,
    SidecarOptions,
    parse_fingerprint,
    parse_instance_address,
)

__all__ = ["MIN_ENVOY_MEMORY", "SidecarOptions", "parse_fingerprint", "parse_instance_address"]
