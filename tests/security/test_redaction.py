"""No private key and no join token anywhere but where it belongs, whatever happens."""

from __future__ import annotations

import base64
import gc
import json
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from control_plane.app.control_plane import DATABASE_FILE
from control_plane.ca import make_csr, new_key_pair
from control_plane.logs import REDACTED
from control_plane.settings.retired import CA_FILE
from tests.faults.plane import plane
from tests.security.leaks import Secrets
from tests.security.telling import misplace, tell
from tests.security.world import control_plane

PRIVATE_MARK = b"PRIVATE KEY"


async def test_at_debug_level_nothing_secret_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in the log, not in an answer, not in the database, and in no file but the CA's."""
    monkeypatch.setenv("C2C_LOG_LEVEL", "debug")
    async with plane(tmp_path) as cf:
        told = await tell(cf)
        await misplace(cf, told)
        await cf.kill()
    data = cf.settings.data_dir
    told.secrets.add_key((data / CA_FILE).read_bytes(), "the CA")
    log = "\n".join(cf.log)
    files = [path for path in data.rglob("*") if path.is_file()]
    private = {path.name for path in files if PRIVATE_MARK in path.read_bytes()}

    assert any(json.loads(line)["level"] == "debug" for line in cf.log if line.startswith("{"))
    assert "xds.nacked" in log
    assert REDACTED in log  # so something was there to be caught
    assert not told.secrets.found_in(log)
    assert not told.secrets.found_in_any(told.answers)
    assert set(told.secrets.holders(tmp_path)) == {f"{data.name}/{CA_FILE}"}
    assert private == {CA_FILE}
    for name in (CA_FILE, DATABASE_FILE):
        assert stat.S_IMODE((data / name).stat().st_mode) == 0o600


async def test_no_object_shows_a_secret(tmp_path: Path) -> None:
    """Whatever is alive in the server, its ``repr`` has neither key nor token in it."""
    async with control_plane(tmp_path) as cf:
        told = await tell(cf)
        core = cf.running.core
        told.secrets.add_key(core.authority.key.private_pem(), "the CA")
        server = cf.running.ports._certificate.current()
        assert server.private_key_pem is not None
        told.secrets.add_key(server.private_key_pem, "the server")
        gc.collect()  # what is dead, and only waits to be freed, is not shown by anybody
        ours = [each for each in gc.get_objects() if is_ours(type(each))]
        shown = {type(each).__qualname__: told.secrets.found_in(repr(each)) for each in ours}

        assert {"Authority", "Leaf", "Resource", "Settings", "State"} <= shown.keys()
        assert not {name: found for name, found in shown.items() if found}
        assert not told.secrets.found_in_any(told.answers)


def is_ours(kind: type) -> bool:
    """Tell whether a class is of this project."""
    return str(kind.__module__).startswith("control_plane.")


def test_the_search_finds_what_a_leak_would_look_like() -> None:
    """A key in PEM, cut or escaped, in DER, as a number; a token; and no certificate."""
    key = new_key_pair()
    secrets = Secrets()
    secrets.add_key(key.private_pem(), "somebody")
    secrets.add_token("c2cjt_token")
    pem = key.private_pem().decode()
    number = key.private.private_numbers()
    assert isinstance(number, ec.EllipticCurvePrivateNumbers)
    der = key.private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    for leak in (
        *(pem, pem[60:110], json.dumps({"key": pem}), repr(pem.encode())),
        *(
            der,
            der.hex(),
            str(number.private_value),
            base64.b64encode(number.private_value.to_bytes(32)),
        ),
        "https://example.org/?token=c2cjt_token",
    ):
        assert secrets.found_in(leak), leak
    assert not secrets.found_in(make_csr(key))
    assert not secrets.found_in(repr(key))
