"""The commands that are installed beside this Python."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

C2C = str(Path(sys.executable).with_name("c2c"))
C2C_WORD = shlex.quote(C2C)
"""The same for a script: a clone may be in a directory whose name has spaces."""

GRPCURL = str(Path(sys.executable).with_name("grpcurl"))
