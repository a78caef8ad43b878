"""The CAs on the disk: whatever happened, a start finds one state, and the right one."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import structlog
from cryptography import x509

from control_plane.app import authority as files
from control_plane.app.authority import new_authority, open_authorities
from control_plane.ca import Authority, Stage, create_authority, new_key_pair
from control_plane.ca.rotation import activate, prepare, retire, undo_activate, undo_prepare
from control_plane.errors import ConfigurationError, StorageError
from control_plane.names import Domain, InstanceGuid
from control_plane.server.authorities import Authorities
from control_plane.settings import Settings
from control_plane.settings.own_authority import ROTATION_FILE
from control_plane.settings.retired import CA_FILE, RETIRED_FILE
from control_plane.store.files import write_private
from control_plane.store.protocol import IssuedRecord
from tests.unit.ca.forge import CA, ca_pem, made
from tests.unit.server_security.still_clock import NOON, StillClock

CLOCK = StillClock()

Step = Callable[[Authorities], None]


class World:
    """A data directory in which a control plane is started again and again."""

    def __init__(self, directory: Path) -> None:
        """Start with nothing in it."""
        self.directory = directory / "data"
        self.directory.mkdir(mode=0o700)
        self.settings = Settings(data_dir=self.directory)
        self.clock = CLOCK
        self.serials = itertools.count(0xC0FFEE)

    def started(self) -> Authorities:
        """Return what a control plane has after a start."""
        return open_authorities(self.settings, self.clock, self.serials.__next__)

    def own(self, name: str = "own CA", lifetime: timedelta = timedelta(days=1)) -> Authority:
        """Put an operator's CA beside the data directory, and have the settings name it."""
        made = create_authority(
            name, now=NOON, lifetime=lifetime, key=new_key_pair(), serial=next(self.serials)
        )
        certificate, key = (self.directory.parent / f"{name}{end}" for end in (".pem", ".key"))
        certificate.write_bytes(ca_pem(made))
        key.touch(mode=0o600)
        key.write_bytes(made.key.private_pem())
        self.settings = Settings(data_dir=self.directory, ca_cert=certificate, ca_key=key)
        return made

    def prepare(self, authorities: Authorities) -> None:
        """Have a new CA trusted."""
        made = new_authority(CLOCK, next(self.serials))
        asyncio.run(authorities.change(prepare(authorities.rotation, made, NOON)))

    def activate(self, authorities: Authorities) -> None:
        """Have it sign."""
        asyncio.run(authorities.change(activate(authorities.rotation, NOON, next(self.serials))))

    def undo_activate(self, authorities: Authorities) -> None:
        """Take that back."""
        asyncio.run(
            authorities.change(undo_activate(authorities.rotation, NOON, next(self.serials)))
        )

    def undo_prepare(self, authorities: Authorities) -> None:
        """Take that back, too."""
        asyncio.run(authorities.change(undo_prepare(authorities.rotation, NOON)))

    def retire(self, authorities: Authorities) -> None:
        """Forget the old CA."""
        asyncio.run(authorities.change(retire(authorities.rotation, NOON)))

    def keys_on_disk(self) -> str:
        """Return every private key in the data directory, as they are written."""
        texts = (each.read_text("latin-1") for each in self.directory.iterdir())
        return "".join(texts).replace("\\n", "\n")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return an empty data directory."""
    return World(tmp_path)


def facts(authorities: Authorities) -> tuple[Stage, str, bytes, bytes]:
    """Return the stage, who signs, what is sent and what is trusted."""
    current = authorities.current()
    return (
        authorities.rotation.stage,
        current.fingerprint,
        current.sent_pem,
        authorities.trust_bundle_pem(),
    )


def pem_of(authority: Authority) -> str:
    """Return the private key of a CA, as it would be in a file."""
    return authority.key.private_pem().decode()


def test_the_embedded_ca_is_made_once(world: World) -> None:
    """The first start makes it, in a private file, and every other one finds it."""
    first = world.started()

    assert facts(world.started()) == facts(first)
    assert (world.directory / CA_FILE).stat().st_mode & 0o777 == 0o600


def test_every_stage_survives_a_restart(world: World) -> None:
    """After each step a start leads to the same stage, chain and trust."""
    authorities = world.started()
    for step, stage in (
        (world.prepare, Stage.PREPARED),
        (world.activate, Stage.ACTIVATED),
        (world.undo_activate, Stage.PREPARED),
        (world.activate, Stage.ACTIVATED),
        (world.retire, Stage.STEADY),
    ):
        step(authorities)
        assert authorities.rotation.stage is stage
        assert facts(world.started()) == facts(authorities)
    for each in (CA_FILE, RETIRED_FILE):
        assert (world.directory / each).stat().st_mode & 0o777 == 0o600


def test_the_key_of_a_ca_that_left_is_nowhere(world: World) -> None:
    """Retired or taken back: no file of the data directory has its key any more."""
    authorities = world.started()
    old = authorities.current()
    world.prepare(authorities)
    cancelled = authorities.rotation.other
    assert cancelled is not None
    assert pem_of(cancelled) in world.keys_on_disk()
    world.undo_prepare(authorities)
    assert pem_of(cancelled) not in world.keys_on_disk()

    world.prepare(authorities)
    world.activate(authorities)
    world.retire(authorities)
    assert pem_of(old) not in world.keys_on_disk()
    assert pem_of(authorities.current()) in world.keys_on_disk()
    assert (world.directory / RETIRED_FILE).read_text() == f"{old.fingerprint}\n"


def test_the_key_of_the_embedded_ca_goes_also_if_the_settings_name_the_next(world: World) -> None:
    """The CA that stays is in the operator's own files then, and in no other."""
    authorities = world.started()
    old = authorities.current()
    own = world.own()
    asyncio.run(authorities.change(prepare(authorities.rotation, own, NOON)))
    world.activate(authorities)
    again = world.started()
    world.retire(again)

    assert pem_of(old) not in world.keys_on_disk()
    assert not (world.directory / CA_FILE).exists()
    assert world.started().current().fingerprint == own.fingerprint


def test_a_key_that_a_broken_off_retirement_wrote_goes_when_it_is_taken_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CA that was to stay is forgotten then, and the settings name the one that does."""
    own = world.own()
    authorities = world.started()
    world.prepare(authorities)
    world.activate(authorities)
    new = authorities.current()
    write = write_private

    def crashing(path: Path, data: bytes) -> None:
        if path.name == RETIRED_FILE:
            raise StorageError("the machine crashed")
        write(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(files, "write_private", crashing)
        with pytest.raises(StorageError):
            world.retire(authorities)
    assert pem_of(new) in (world.directory / CA_FILE).read_text()
    again = world.started()
    world.undo_activate(again)
    world.undo_prepare(again)

    assert pem_of(new) not in world.keys_on_disk()
    assert world.started().current().fingerprint == own.fingerprint


@pytest.mark.parametrize("is_named", [False, True], ids=["no setting", "a retired CA in it"])
def test_an_embedded_ca_that_was_retired_is_not_used(world: World, *, is_named: bool) -> None:
    """Its file may be from a backup; the start is refused with what to do."""
    authorities = world.started()
    backup = (world.directory / CA_FILE).read_bytes()
    world.prepare(authorities)
    world.activate(authorities)
    world.retire(authorities)
    (world.directory / CA_FILE).write_bytes(backup)
    if is_named:
        own = world.own()
        with (world.directory / RETIRED_FILE).open("a") as retired:
            retired.write(f"{own.fingerprint}\n")

    with pytest.raises(
        ConfigurationError, match=r"ca\.pem': CA sha256:\w+ was retired.*: name the"
    ):
        world.started()


def test_a_rotation_of_an_older_backup_is_not_gone_on_with(world: World) -> None:
    """The CA that signs in it was retired meanwhile; without the file, the other one signs on."""
    authorities = world.started()
    world.prepare(authorities)
    backup = (world.directory / ROTATION_FILE).read_bytes()
    world.activate(authorities)
    world.retire(authorities)
    write_private(world.directory / ROTATION_FILE, backup)

    with pytest.raises(ConfigurationError, match=r"rotation\.json': CA sha256:\w+ signs, but was"):
        world.started()
    (world.directory / ROTATION_FILE).unlink()
    assert facts(world.started()) == facts(authorities)


def test_a_retirement_that_broke_off_can_be_taken_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old CA, which was noted as retired by then, signs again after every start."""
    authorities = world.started()
    old = authorities.current().fingerprint
    world.prepare(authorities)
    world.activate(authorities)

    def crashing(path: Path) -> None:
        raise StorageError(f"the machine crashed before {path.name} was removed")

    with monkeypatch.context() as patched:
        patched.setattr(files, "remove_private", crashing)
        with pytest.raises(StorageError):
            world.retire(authorities)
    assert (world.directory / RETIRED_FILE).read_text() == f"{old}\n"
    again = world.started()
    world.undo_activate(again)

    assert world.started().current().fingerprint == old
    assert (world.directory / RETIRED_FILE).read_text() == ""
    world.undo_prepare(again)
    assert world.started().current().fingerprint == old


def test_what_a_crash_left_of_a_step_goes_with_the_rotation(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that broke off between writing and renaming leaves no key of the CA that is retired.

    The file beside the one of the rotation has the keys of both CAs then.
    """
    authorities = world.started()
    old = authorities.current()
    world.prepare(authorities)
    world.activate(authorities)

    class Killed(BaseException):
        """What no code of ours gets to handle."""

    def killed(*_arguments: object) -> None:
        raise Killed

    with monkeypatch.context() as crashing:
        crashing.setattr(os, "rename", killed)
        with pytest.raises(Killed):
            world.undo_activate(authorities)
    again = world.started()
    assert again.rotation.stage is Stage.ACTIVATED
    assert (world.directory / f"{ROTATION_FILE}.new").exists()

    world.retire(again)
    assert pem_of(old) not in world.keys_on_disk()


@pytest.mark.parametrize("writes", range(4))
def test_a_crash_anywhere_leaves_one_of_two_stages(
    world: World, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """Whatever of a retirement was written: it is done, or can be done again or taken back."""
    authorities = world.started()
    old = facts(authorities)[1]
    world.prepare(authorities)
    world.activate(authorities)
    before = facts(authorities)
    left = iter(range(writes))

    def failing(real: Callable[..., None]) -> Callable[..., None]:
        def work(*arguments: object) -> None:
            if next(left, None) is None:
                raise StorageError("the machine crashed")
            real(*arguments)

        return work

    with monkeypatch.context() as crashing:
        for name in ("write_private", "remove_private"):
            crashing.setattr(files, name, failing(getattr(files, name)))
        if writes < 3:
            with pytest.raises(StorageError):
                world.retire(authorities)
            assert facts(authorities) == before
        else:
            world.retire(authorities)

    again = world.started()
    if writes == 3:
        assert again.rotation.stage is Stage.STEADY
        return
    assert facts(again) == before
    world.undo_activate(again)
    world.undo_prepare(again)
    assert facts(world.started())[:2] == (Stage.STEADY, old)
    assert (world.directory / RETIRED_FILE).read_text() == ""


def test_a_step_that_cannot_be_written_is_not_taken(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is told of it, and everything is as before."""
    authorities = world.started()
    before, told = facts(authorities), []

    def full(*_arguments: object) -> None:
        raise StorageError("no space left on device")

    authorities.observe(lambda: told.append(1))
    monkeypatch.setattr(files, "write_private", full)
    with pytest.raises(StorageError):
        world.prepare(authorities)

    assert (facts(authorities), told) == (before, [])
    assert facts(world.started()) == before


def test_an_own_ca_is_replaced_and_does_not_come_back(world: World) -> None:
    """A setting that still names the retired CA is told of, and not followed."""
    own = world.own(lifetime=timedelta(hours=30))
    authorities = world.started()
    assert authorities.current().fingerprint == own.fingerprint
    assert not (world.directory / CA_FILE).exists()
    world.prepare(authorities)
    assert facts(world.started()) == facts(authorities)
    world.activate(authorities)
    world.retire(authorities)

    with structlog.testing.capture_logs() as logs:
        again = world.started()
    assert facts(again) == facts(authorities)
    (warning,) = (each for each in logs if each["event"] == "setting.warned")
    assert warning["setting"] == "ca_cert"
    assert "was retired, so it is not used" in warning["reason"]
    assert world.settings.ca_key is not None
    assert world.settings.ca_key.exists(), "the operator's own file is the operator's"


def test_the_key_of_an_own_ca_may_be_destroyed_once_it_was_retired(world: World) -> None:
    """The settings may name it on, also while the next CA is replaced: they are told of only."""
    world.own()
    authorities = world.started()
    world.prepare(authorities)
    world.activate(authorities)
    assert world.settings.ca_key is not None
    content = world.settings.ca_key.read_bytes()
    world.settings.ca_key.unlink()
    with pytest.raises(ConfigurationError, match="No such file"):
        world.started()
    world.settings.ca_key.touch(mode=0o600)
    world.settings.ca_key.write_bytes(content)
    world.retire(authorities)
    world.settings.ca_key.unlink()
    assert facts(world.started()) == facts(authorities)

    world.prepare(authorities)
    with structlog.testing.capture_logs() as logs:
        assert facts(world.started()) == facts(authorities)
    assert [each["event"] for each in logs] == ["setting.warned", "ca.loaded"]


def test_an_own_ca_may_end_while_it_leaves_and_once_it_left(world: World) -> None:
    """The settings may name it until somebody has time to change them, but not while it signs."""
    world.own(lifetime=timedelta(hours=30))
    authorities = world.started()
    world.clock = StillClock()
    world.clock.set(timedelta(hours=31))
    with pytest.raises(ConfigurationError, match="expired on"):
        world.started()
    world.prepare(authorities)
    world.activate(authorities)
    assert facts(world.started()) == facts(authorities)
    world.retire(authorities)

    assert facts(world.started()) == facts(authorities)


def test_an_own_ca_that_stays_is_kept_nowhere_else(world: World) -> None:
    """A rotation that was taken back leaves its key in the operator's own file alone."""
    own = world.own()
    authorities = world.started()
    world.prepare(authorities)
    world.activate(authorities)
    world.undo_activate(authorities)
    world.undo_prepare(authorities)

    assert pem_of(own) not in world.keys_on_disk()
    assert facts(world.started()) == facts(authorities)
    assert authorities.current().fingerprint == own.fingerprint


def test_an_own_ca_that_excludes_an_internal_domain_stops_the_start(world: World) -> None:
    """The settings say where routes may be, and whose names no client would take."""
    world.own()
    assert world.settings.ca_cert is not None
    assert world.settings.ca_key is not None
    key = new_key_pair()
    names = x509.NameConstraints(None, [x509.DNSName("corp.example")])
    start, end = NOON - timedelta(hours=1), NOON + timedelta(hours=1)
    ca = made("ca", key=key, extensions=[*CA, (names, True)], start=start, end=end)
    world.settings.ca_cert.write_bytes(ca.pem)
    world.settings.ca_key.write_bytes(key.private_pem())
    assert world.started().current().certificate == ca.certificate

    domains = (Domain("apps.internal"), Domain("c2c.corp.example"))
    world.settings = replace(world.settings, internal_domains=domains)
    with pytest.raises(ConfigurationError, match="excludes the internal domain 'c2c"):
        world.started()


def test_an_own_ca_that_strict_clients_refuse_is_told_of(world: World) -> None:
    """Each start has a line of it, and each goes on."""
    world.own()
    assert world.settings.ca_cert is not None
    assert world.settings.ca_key is not None
    with structlog.testing.capture_logs() as quiet:
        world.started()
    key = new_key_pair()
    lax = made("lax", key=key, start=NOON - timedelta(hours=1), end=NOON + timedelta(hours=1))
    world.settings.ca_cert.write_bytes(lax.pem)
    world.settings.ca_key.write_bytes(key.private_pem())
    with structlog.testing.capture_logs() as logs:
        assert world.started().current().certificate == lax.certificate

    assert [each["event"] for each in quiet] == ["ca.loaded"]
    (warning,) = (each for each in logs if each["event"] == "setting.warned")
    assert warning["setting"] == "ca_cert"
    assert "refuse what this CA signs: CA certificate 'CN=lax' has no key" in warning["reason"]


def test_settings_may_name_the_new_ca_after_the_rotation(world: World) -> None:
    """Then its files count, as those of any own CA do."""
    authorities = world.started()
    own = world.own()
    asyncio.run(authorities.change(prepare(authorities.rotation, own, NOON)))
    world.activate(authorities)
    world.retire(authorities)

    assert world.started().current().fingerprint == own.fingerprint


def test_a_ca_that_has_no_part_in_the_rotation_is_refused(world: World) -> None:
    """Nobody would trust what it signs, so the start is refused with what to do."""
    world.prepare(world.started())
    world.own("stranger")

    with pytest.raises(ConfigurationError, match="has no part in the rotation that is under way"):
        world.started()


@pytest.mark.parametrize("mode", [0o644, 0o640], ids=oct)
def test_a_rotation_that_others_may_read_stops_the_start(world: World, mode: int) -> None:
    """It holds private keys."""
    world.prepare(world.started())
    (world.directory / ROTATION_FILE).chmod(mode)

    with pytest.raises(ConfigurationError, match=f"it has mode {mode:04o}"):
        world.started()


def test_a_damaged_ca_stops_the_start_and_is_named(world: World) -> None:
    """Whoever finds the sentence in a log knows which file to bring back."""
    world.started()
    path = world.directory / CA_FILE
    path.write_bytes(path.read_bytes().replace(b"CERTIFICATE", b"CERTIFICADO"))

    with pytest.raises(ConfigurationError) as caught:
        world.started()
    assert caught.value.problems[0].startswith(f"file '{path}': CA certificate: not X.509")

    world.own()
    certificate, key = world.settings.ca_cert, world.settings.ca_key
    assert certificate is not None
    certificate.write_bytes(b"nothing")
    with pytest.raises(ConfigurationError) as caught:
        world.started()
    assert caught.value.problems == (
        f"files '{certificate}' and '{key}': CA certificate: not X.509 certificates in PEM",
    )


def test_a_damaged_rotation_stops_the_start(world: World) -> None:
    """Going on with the CA before would cut off whoever trusts the new one only."""
    world.prepare(world.started())
    (world.directory / ROTATION_FILE).write_text("{}")

    with pytest.raises(ConfigurationError, match=r"ca-rotation\.json.*not the state of a CA"):
        world.started()


def test_observers_are_told_of_what_is_on_disk(world: World) -> None:
    """Whoever is told and looks, or is restarted then, sees the new stage."""
    authorities = world.started()
    seen: list[bool] = []
    authorities.observe(lambda: seen.append(facts(world.started()) == facts(authorities)))
    world.prepare(authorities)
    world.activate(authorities)

    assert seen == [True, True]


def test_a_ca_that_left_is_gone_until_it_comes_back(world: World) -> None:
    """On connections from before, what it signed counts no more."""
    authorities = world.started()
    old = authorities.current().subject
    world.prepare(authorities)
    world.activate(authorities)
    assert not authorities.is_gone(old)
    world.retire(authorities)

    assert authorities.is_gone(old)
    assert not authorities.is_gone(authorities.current().subject)


def test_new_cas_have_names_of_their_own(world: World) -> None:
    """Clients look for the issuer of a certificate by its name."""
    made = [new_authority(CLOCK, next(world.serials)).subject for _ in range(2)]

    assert made == ["CN=c2c-control-plane CA 00c0ffee", "CN=c2c-control-plane CA 00c0ffef"]


def _warned(world: World, *issuers: str, days: int = 1) -> list[str]:
    """Return of which CAs a start warns with a database of certificates that these signed."""
    ends = NOON + timedelta(days=days)
    b0 = InstanceGuid("b0")
    issued = [IssuedRecord(b0, "id", "v", 1, (b0,), NOON, ends, each) for each in issuers]
    with structlog.testing.capture_logs() as logs:
        open_authorities(world.settings, CLOCK, world.serials.__next__, issued)
    warnings = [each for each in logs if each["log_level"] == "warning"]
    assert {each["event"] for each in warnings} <= {"ca.others_signed"}
    return [fingerprint for each in warnings for fingerprint in each["fingerprints"]]


def test_a_database_without_its_ca_is_warned_of(world: World) -> None:
    """A new CA is made where none is, and else nothing says why nobody is let in any more."""
    before = world.started().current().fingerprint
    assert _warned(world, before) == []
    (world.directory / CA_FILE).unlink()

    assert _warned(world, before) == [before]
    assert _warned(world, before, days=0) == []
    assert _warned(world, before, world.started().current().fingerprint) == []
    assert _warned(world) == []


def test_what_a_rotation_left_is_not_warned_of(world: World) -> None:
    """The other CA of a rotation is here too, and one that was retired went on purpose."""
    authorities = world.started()
    before = authorities.current().fingerprint
    world.prepare(authorities)
    world.activate(authorities)
    assert _warned(world, before) == []
    world.retire(authorities)
    assert _warned(world, before) == []
