"""The operator's settings, read once at the start."""

from control_plane.settings.cautions import UNKNOWN_HOST, Caution, cautions, enroll_host
from control_plane.settings.conflicts import admin_socket, socket_target
from control_plane.settings.fields import Setting, Settings, all_settings
from control_plane.settings.load import Loaded, find_data_dir, load_settings
from control_plane.settings.values import LogFormat, LogLevel, SocketAddress

__all__ = [
    "UNKNOWN_HOST",
    "Caution",
    "Loaded",
    "LogFormat",
    "LogLevel",
    "Setting",
    "Settings",
    "SocketAddress",
    "admin_socket",
    "all_settings",
    "cautions",
    "enroll_host",
    "find_data_dir",
    "load_settings",
    "socket_target",
]
