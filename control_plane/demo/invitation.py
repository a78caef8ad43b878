"""What to try while the demo is kept running.

The rule of this module: every line works when it is pasted into another terminal. So PATH is
extended first where a program would not be found, and a program that this machine lacks is not
mentioned.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from control_plane.demo.places import CALLER, DOMAIN, SERVERS
from control_plane.names import C2C_PORT
from control_plane.sidecar.directory import ADMIN_SOCKET

_PROGRAMS = Path(sys.executable).parent
"""The directory of this installation's programs, perhaps including grpcurl; it may not be on
PATH."""


def invitation(directory: Path) -> Iterator[str]:
    """Yield the lines to print.

    Args:
        directory: the directory of the demo.
    """
    data = shlex.quote(str(directory / "control-plane"))
    ca = shlex.quote(str(directory / CALLER.directory / "ca.pem"))
    admin = shlex.quote(str(directory / SERVERS[0].directory / ADMIN_SOCKET))
    yield from ("", "It is still running; Ctrl-C ends it. In another terminal, try:", "")
    hidden = [name for name in ("c2c", "grpcurl") if shutil.which(name) is None]
    if any((_PROGRAMS / name).exists() for name in hidden):
        yield f"  export PATH={shlex.quote(str(_PROGRAMS))}:$PATH"
    yield f"  export C2C_DATA_DIR={data}"
    yield "  c2c instances"
    yield f"  c2c add-network-policy app-a app-b --protocol tcp --port {C2C_PORT}"
    yield f"  c2c map-route app-b {DOMAIN} --hostname shop"
    yield f"  curl --interface {CALLER.address} --cacert {ca} \\"
    yield f"       --resolve shop.{DOMAIN}:{C2C_PORT}:{SERVERS[0].address} \\"
    yield f"       https://shop.{DOMAIN}:{C2C_PORT}/"
    if "grpcurl" not in hidden or (_PROGRAMS / "grpcurl").exists():
        yield f"  grpcurl -plaintext -unix {data}/admin.sock list"
        yield f"  grpcurl -plaintext -unix {data}/admin.sock \\"
        yield "       envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus"
    yield f"  curl --unix-socket {admin} http://envoy/certs"
