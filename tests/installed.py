"""The commands that are installed beside this Python."""

from __future__ import annotations

import sys
from pathlib import Path

C2C = str(Path(sys.executable).with_name("c2c"))
GRPCURL = str(Path(sys.executable).with_name("grpcurl"))
