"""The composition root: settings in, a running control plane out."""

from control_plane.app.control_plane import ControlPlane
from control_plane.app.serve import serve

__all__ = ["ControlPlane", "serve"]
