"""What Envoy and the app are started with."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import structlog

from control_plane import log_events
from control_plane.ca import read_certificates, read_java_trust_store
from control_plane.errors import StorageError
from control_plane.names import Port
from control_plane.sidecar.app_trust import (
    ADDING,
    AGAIN_SECONDS,
    IF_SET,
    JAVA_OPTIONS,
    REPLACING,
    AppTrust,
)
from control_plane.sidecar.directory import SidecarDirectory
from control_plane.sidecar.processes.environment import app_environment, without_token
from tests.unit.reconciler.clocks import ManualClock, settled
from tests.unit.sidecar.members import ADDRESS, GUID, authority, membership


def fingerprints(pem: bytes) -> set[str]:
    """Return whom a file has."""
    return {each.fingerprint for each in read_certificates(pem)}


def test_the_token_is_in_no_variable_whatever_its_name() -> None:
    """It may have come by any variable, and be a part of one."""
    inherited = {"A": "c2cjt_x", "B": "token=c2cjt_x,", "PATH": "/bin"}

    assert without_token(inherited, "c2cjt_x") == {"PATH": "/bin"}


@pytest.mark.parametrize("token", ["", "c2cjt_used"])
def test_a_token_that_was_not_used_is_passed_on_no_more_than_another(token: str) -> None:
    """Who has it can be an instance of the app, whichever the sidecar was started with."""
    inherited = {"C2C_SIDECAR_TOKEN": "c2cjt_other", "PATH": "/bin"}

    assert without_token(inherited, token) == {"PATH": "/bin"}


def test_without_a_token_every_variable_stays() -> None:
    """An empty text is a part of every other."""
    assert without_token({"A": "", "B": "x"}, "") == {"A": "", "B": "x"}


def test_an_app_knows_where_it_is() -> None:
    """In the words of Cloud Foundry, which its libraries know."""
    member = membership(authority())

    variables = app_environment({"HOME": "/app"}, member, Port(9090), {"SSL_CERT_FILE": "/x"})

    assert variables == {
        "HOME": "/app",
        "PORT": "9090",
        "CF_INSTANCE_GUID": GUID,
        "CF_INSTANCE_INDEX": "3",
        "CF_INSTANCE_INTERNAL_IP": ADDRESS,
        "SSL_CERT_FILE": "/x",
    }


def test_a_port_that_is_set_already_stays() -> None:
    """Whoever set it knows better where the app has to listen."""
    member = membership(authority())

    assert app_environment({"PORT": "7"}, member, Port(9090), {})["PORT"] == "7"


async def test_without_system_roots_our_ca_alone_replaces_nothing(tmp_path: Path) -> None:
    """What adds is set, what replaces is not, and the log says that the image has no roots."""
    trust = AppTrust(
        SidecarDirectory(tmp_path), {"PATH": ""}, [str(tmp_path / "none.pem")], clock=ManualClock()
    )
    with structlog.testing.capture_logs() as logs:
        variables = await trust.write(authority().trust_bundle_pem)

    assert variables == {
        "C2C_CA_FILE": str(tmp_path / "ca.pem"),
        "NODE_EXTRA_CA_CERTS": str(tmp_path / "ca.pem"),
    }
    assert [each["reason"] for each in logs] == ["the system has no root certificates to add to"]


async def test_the_documented_files_are_there_whatever_the_variables_say(tmp_path: Path) -> None:
    """A program that the sidecar does not start finds them, though the sidecar's own has others."""
    system, ours = authority("system").trust_bundle_pem, authority().trust_bundle_pem
    roots, company = tmp_path / "system.pem", tmp_path / "company.pem"
    roots.write_bytes(system)
    company.write_bytes(authority("company").trust_bundle_pem)
    replaced = dict.fromkeys([*REPLACING, *IF_SET, ADDING], str(company))
    java = {JAVA_OPTIONS: "-Djavax.net.ssl.trustStore=/own.p12", "PATH": ""}
    directory = SidecarDirectory(tmp_path / "sidecar")

    trust = AppTrust(directory, {**replaced, **java}, [str(roots)], clock=ManualClock())
    variables = await trust.write(ours)

    assert (directory.path / "roots.pem").read_bytes() == system + ours
    store = read_java_trust_store((directory.path / "roots.p12").read_bytes())
    assert fingerprints(store) == fingerprints(system + ours)
    for name in replaced:
        assert Path(variables[name]).read_bytes() == company.read_bytes() + ours


async def test_without_system_roots_the_documented_files_have_our_ca(tmp_path: Path) -> None:
    """Who names such a file anyway reaches other apps; a missing one lets it reach none."""
    directory, ours = SidecarDirectory(tmp_path), authority().trust_bundle_pem

    trust = AppTrust(directory, {"PATH": ""}, [str(tmp_path / "none.pem")], clock=ManualClock())
    await trust.write(ours)

    assert (tmp_path / "roots.pem").read_bytes() == ours
    assert read_java_trust_store((tmp_path / "roots.p12").read_bytes()) == ours


async def test_a_variable_may_name_our_own_file_already(tmp_path: Path) -> None:
    """Whoever sets it for app and sidecar together has it from the first start on."""
    roots, ours = tmp_path / "system.pem", authority().trust_bundle_pem
    roots.write_bytes(authority("system").trust_bundle_pem)
    directory = SidecarDirectory(tmp_path / "sidecar")
    given = {"SSL_CERT_FILE": str(directory.path / "roots.pem"), "PATH": ""}

    trust = AppTrust(directory, given, [str(roots)], clock=ManualClock())
    named = (await trust.write(ours))["SSL_CERT_FILE"]

    assert fingerprints(Path(named).read_bytes()) == fingerprints(roots.read_bytes() + ours)


async def test_a_trust_store_that_somebody_chose_stays(tmp_path: Path) -> None:
    """Java takes one store only, so the operator's own is left alone, and the log says so."""
    given = {"JAVA_TOOL_OPTIONS": "-Xmx64m -Djavax.net.ssl.trustStore=/own.p12", "PATH": ""}
    roots = tmp_path / "system.pem"
    roots.write_bytes(authority("system").trust_bundle_pem)
    trust = AppTrust(
        SidecarDirectory(tmp_path / "sidecar"), given, [str(roots)], clock=ManualClock()
    )
    with structlog.testing.capture_logs() as logs:
        variables = await trust.write(authority().trust_bundle_pem)

    assert "JAVA_TOOL_OPTIONS" not in variables
    assert [each["variable"] for each in logs] == ["JAVA_TOOL_OPTIONS"]


async def test_other_options_of_java_stay(tmp_path: Path) -> None:
    """Ours are put after what is there already, quoted as Java reads them."""
    roots = tmp_path / "system.pem"
    roots.write_bytes(authority("system").trust_bundle_pem)
    directory = SidecarDirectory(tmp_path / "a directory")
    trust = AppTrust(
        directory, {"JAVA_TOOL_OPTIONS": "-Xmx64m", "PATH": ""}, [str(roots)], clock=ManualClock()
    )

    options = (await trust.write(authority().trust_bundle_pem))["JAVA_TOOL_OPTIONS"]

    store = f"'-Djavax.net.ssl.trustStore={directory.path}/roots.p12'"
    assert options.startswith(f"-Xmx64m {store} -Djavax.net.ssl.trustStoreType=PKCS12 ")


async def test_a_variable_that_names_nothing_is_left_alone(tmp_path: Path) -> None:
    """A file that is not there yet is the platform's business, and the log says so."""
    roots = tmp_path / "system.pem"
    roots.write_bytes(authority("system").trust_bundle_pem)
    given = {"SSL_CERT_FILE": str(tmp_path / "soon.pem"), "PATH": ""}
    trust = AppTrust(
        SidecarDirectory(tmp_path / "sidecar"), given, [str(roots)], clock=ManualClock()
    )
    with structlog.testing.capture_logs() as logs:
        variables = await trust.write(authority().trust_bundle_pem)

    assert "SSL_CERT_FILE" not in variables
    assert "REQUESTS_CA_BUNDLE" in variables
    assert [each["variable"] for each in logs] == ["SSL_CERT_FILE"]


@pytest.mark.usefixtures("disk_at_once")
async def test_the_files_follow_a_new_ca_and_nothing_else(tmp_path: Path) -> None:
    """The next start of an app trusts the new CA; a renewed identity rewrites nothing."""
    roots = tmp_path / "system.pem"
    roots.write_bytes(authority("system").trust_bundle_pem)
    directory = SidecarDirectory(tmp_path / "sidecar")
    trust = AppTrust(directory, {"PATH": ""}, [str(roots)], clock=ManualClock())
    old, new = membership(authority("old")), membership(authority("new"))
    written = Path((await trust.write(old.credentials.trust_bundle))["SSL_CERT_FILE"])
    before = written.stat().st_ino
    running = asyncio.create_task(trust.run())

    trust.follow(old.credentials)
    await settled()
    assert written.stat().st_ino == before
    trust.follow(new.credentials)
    await settled()
    running.cancel()
    await asyncio.wait([running])

    assert written.read_bytes() == roots.read_bytes() + new.credentials.trust_bundle


@pytest.mark.usefixtures("disk_at_once")
async def test_files_that_could_not_be_written_are_written_soon(tmp_path: Path) -> None:
    """A disk that was full when the CA changed does not leave an app without it for half a day."""
    roots, clock = tmp_path / "system.pem", ManualClock()
    roots.write_bytes(authority("system").trust_bundle_pem)
    directory = SidecarDirectory(tmp_path / "sidecar")
    trust = AppTrust(directory, {"PATH": ""}, [str(roots)], clock=clock)
    old, new = (membership(authority(each)).credentials for each in ("old", "new"))
    written = Path((await trust.write(old.trust_bundle))["SSL_CERT_FILE"])
    obstacle = directory.path / "roots.pem.new"
    obstacle.mkdir()
    with structlog.testing.capture_logs() as logs:
        running = asyncio.create_task(trust.run())
        trust.follow(new)
        await clock.advance(AGAIN_SECONDS)
        obstacle.rmdir()
        assert written.read_bytes() == roots.read_bytes() + old.trust_bundle
        await clock.advance(AGAIN_SECONDS)
        before = written.stat().st_ino
        await clock.advance(AGAIN_SECONDS)
    running.cancel()
    await asyncio.wait([running])

    told = [(each["event"], each["log_level"]) for each in logs]
    assert told == [
        (log_events.TRUST_NOT_EXPORTED, "error"),
        (log_events.TRUST_NOT_EXPORTED, "debug"),
        (log_events.TRUST_EXPORTED, "info"),
    ]
    assert written.read_bytes() == roots.read_bytes() + new.trust_bundle
    assert written.stat().st_ino == before


async def test_an_app_starts_with_older_files_and_not_without_any(tmp_path: Path) -> None:
    """On a full disk whom it trusted last is better than nobody, and no app better than that."""
    roots = tmp_path / "system.pem"
    roots.write_bytes(authority("system").trust_bundle_pem)
    directory = SidecarDirectory(tmp_path / "sidecar")
    trust = AppTrust(directory, {"PATH": ""}, [str(roots)], clock=ManualClock())
    old, new = membership(authority("old")), membership(authority("new"))
    obstacle = directory.path / "roots.pem.new"
    obstacle.mkdir()
    with pytest.raises(StorageError, match=r"roots\.pem"):
        await trust.write(old.credentials.trust_bundle)
    obstacle.rmdir()
    variables = await trust.write(old.credentials.trust_bundle)
    obstacle.mkdir()

    assert await trust.write(new.credentials.trust_bundle) == variables
    assert Path(variables["SSL_CERT_FILE"]).read_bytes().endswith(old.credentials.trust_bundle)
