"""A CA rotation as an operator sees it: commands, status and metrics."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.envoy.harness import DEADLINE
from tests.inspection.commands import Screen, c2c, running
from tests.inspection.test_metrics import values
from tests.inspection.world import scene
from tests.security.test_addresses import connected
from tests.security.world import stream
from tests.unit.ca.forge import lax_ca_files, made


async def test_each_step_shows_what_the_next_waits_for(tmp_path: Path) -> None:
    """The table, the JSON, status and metrics say the same."""
    async with scene(tmp_path) as here, here.envoy():
        await here.until_served()
        cf = here.cf
        alone = (await c2c(cf, "ca", "list", "--output", "json")).json()
        quiet = await c2c(cf, "status")
        (nothing,) = (await c2c(cf, "status", "--output", "json")).json()
        prepared = await c2c(cf, "ca", "prepare")
        refused = await c2c(cf, "ca", "activate", "--wait", "--timeout", "300ms")
        shown = await c2c(cf, "ca", "list")
        found = (await c2c(cf, "ca", "list", "--output", "json")).json()
        status, metrics = await c2c(cf, "status"), await values(cf)
        (printed,) = (await c2c(cf, "status", "--output", "json")).json()
        forced = await c2c(cf, "ca", "activate", "--force")
        back = await c2c(cf, "ca", "activate", "--undo")
        cancelled = await c2c(cf, "ca", "prepare", "--undo", "--wait", "--timeout", "20s")
        left = (await c2c(cf, "ca", "list", "--output", "json")).json()

    (only,) = alone
    waits = "0 of 1 sidecars have the new trust bundle; waiting for app-b/0"
    assert (only["role"], only["waits_for"], only["live_certificates"]) == ("active", "", 3)
    assert "CA ROTATION" not in quiet.out
    assert prepared.out.startswith("Preparing a CA...\nOK\n")
    assert "c2c ca activate" in prepared.out
    assert (refused.code, refused.out) == (1, "Activating the prepared CA...\nFAILED\n")
    assert refused.err == (
        "Not everybody is ready after 300ms: app-b/0 (no sidecar reports for it) "
        "(see 'c2c ca list')\n"
    )
    assert f"The prepared CA: {waits}\n   app-b/0: no sidecar reports" in shown.out
    assert [(each["role"], each["waits_for"]) for each in found] == [
        ("active", ""),
        ("prepared", waits),
    ]
    assert (set(found[0]), set(found[1])) == (set(only), {*only, "since"})
    assert f"\nCA ROTATION: a CA is prepared: {waits}\n" in status.out
    assert printed["ca_rotation"] == f"a CA is prepared: {waits}"
    assert (nothing["ca_rotation"], nothing["control_plane_alarms"]) == ("", [])
    assert metrics["c2c_ca_rotation_waiting_instances"] == 1
    assert {each for each in metrics if each.startswith("c2c_ca_expiry")} == {
        "c2c_ca_expiry_timestamp_seconds{role=active}",
        "c2c_ca_expiry_timestamp_seconds{role=prepared}",
    }
    assert forced.code == back.code == 0
    assert "c2c ca retire" in forced.out
    assert (cancelled.code, cancelled.err) == (0, "")
    assert [each["fingerprint"] for each in left] == [only["fingerprint"]]


async def test_who_waits_and_forces_forces_when_the_time_is_up(tmp_path: Path) -> None:
    """Each step is taken, though somebody is not ready for it, and after all of the wait."""
    both = ("--wait", "--timeout", "400ms", "--force")
    async with scene(tmp_path) as here, stream(here.cf, here.holder) as client:
        await connected(here.cf, client, here.holder)
        await c2c(here.cf, "ca", "prepare")
        began = time.monotonic()
        activated = await c2c(here.cf, "ca", "activate", *both)
        retired = await c2c(here.cf, "ca", "retire", *both)
        took = time.monotonic() - began
        left = (await c2c(here.cf, "ca", "list", "--output", "json")).json()

    assert (activated.code, activated.err) == (retired.code, retired.err) == (0, "")
    assert took >= 0.8
    assert [each["role"] for each in left] == ["active"]


async def test_who_interrupts_the_wait_is_told_what_is_done(tmp_path: Path) -> None:
    """The CA is prepared before anybody is waited for, and Ctrl-C does not take that back."""
    async with scene(tmp_path) as here, here.envoy():
        await here.until_served()
        with contextlib.closing(Screen()) as screen:
            line = ("ca", "prepare", "--wait")
            async with running(here.cf, *line, terminal=screen.theirs) as waits:
                await screen.until_it_shows("waiting for app-b/0")
                waits.send_signal(signal.SIGINT)
                async with asyncio.timeout(DEADLINE):
                    await waits.wait()
            told = "Interrupted: the CA is prepared, and 'c2c ca list' shows for whom it was waited"
            await screen.until_it_shows(told)

        roles = [
            each["role"] for each in (await c2c(here.cf, "ca", "list", "--output", "json")).json()
        ]
    assert (waits.returncode, roles) == (130, ["active", "prepared"])


async def test_when_nobody_is_waited_for_the_next_step_is_named(tmp_path: Path) -> None:
    """By status and by the list, at either stage."""
    async with scene(tmp_path) as here:
        prepared = await c2c(here.cf, "ca", "prepare")
        told = await c2c(here.cf, "status")
        await c2c(here.cf, "ca", "activate")
        left = await c2c(here.cf, "remove-instance", "app-b/0")
        retiring = await c2c(here.cf, "ca", "list")
        narrow = await c2c(here.cf, "ca", "list", columns=80)
        found = (await c2c(here.cf, "ca", "list", "--output", "json")).json()

    assert "\nThe prepared CA: everybody is ready for 'c2c ca activate'\n" in prepared.out
    assert "\nCA ROTATION: a CA is prepared: everybody is ready for c2c ca activate\n" in told.out
    assert left.code == 0
    assert "\nThe retiring CA: everybody is ready for 'c2c ca retire'\n" in retiring.out
    assert max(map(len, narrow.out.splitlines())) <= 80
    for each in found:
        assert f"\n   {each['fingerprint']}\n" in narrow.out


async def test_a_ca_that_strict_clients_refuse_is_told_of(tmp_path: Path) -> None:
    """Before it signs anything and after, apart from the table; our own lacks nothing."""
    files = _options(lax_ca_files(tmp_path, "lax"))
    async with scene(tmp_path) as here:
        prepared = await c2c(here.cf, "ca", "prepare", *files)
        found = (await c2c(here.cf, "ca", "list", "--output", "json")).json()
        activated = await c2c(here.cf, "ca", "activate")

    assert prepared.code == 0
    assert "\n\nStrict clients, such as Python 3.13, refuse what the active CA" in activated.out
    assert (
        "\nStrict clients, such as Python 3.13, refuse what the prepared CA signs: CA certificate "
        "'CN=lax' has no key usage"
    ) in prepared.out
    assert [each["not_strict"].count("has no") for each in found] == [0, 2]


async def test_a_way_back_that_cannot_be_cross_signed_is_told_of(tmp_path: Path) -> None:
    """From the preparation on, and it is refused unless it is forced."""
    files = _options(lax_ca_files(tmp_path, "short", path_length=0))
    async with scene(tmp_path) as here:
        prepared = await c2c(here.cf, "ca", "prepare", *files)
        activated = await c2c(here.cf, "ca", "activate")
        refused = await c2c(here.cf, "ca", "activate", "--undo")
        forced = await c2c(here.cf, "ca", "activate", "--undo", "--force")

    told = (
        "\nPrograms that trust the new CA only fail once its activation is taken back: CA 'CN=short"
    )
    assert all(told in each.out for each in (prepared, activated, forced))
    assert "Programs that read trust once" not in prepared.out
    assert refused.code == 1
    assert "cannot cross-sign the one before: CA 'CN=short' allows 0 CAs below it" in refused.err
    assert forced.code == 0


async def test_who_needs_another_fingerprint_is_told(tmp_path: Path) -> None:
    """Below one root no CA signs the other; it is said from the preparation on."""
    now = datetime.now(UTC)
    root = made("root", start=now - timedelta(hours=1), end=now + timedelta(days=30))
    old, new = (lax_ca_files(tmp_path, name, by=root) for name in ("old", "new"))
    async with scene(tmp_path) as here:
        first = await c2c(here.cf, "ca", "prepare", *_options(old))
        await c2c(here.cf, "ca", "activate")
        await c2c(here.cf, "ca", "retire", "--force")
        prepared = await c2c(here.cf, "ca", "prepare", *_options(new))
        activated = await c2c(here.cf, "ca", "activate")

    told = (
        "\nSidecars that enrol while the {} CA signs need its fingerprint, not the old CA's: both"
    )
    assert first.code == 0
    assert "need its fingerprint" not in first.out
    assert told.format("prepared") in prepared.out
    assert told.format("active") in activated.out


def _options(files: tuple[Path, Path]) -> tuple[str, ...]:
    return ("--ca-cert", str(files[0]), "--ca-key", str(files[1]))


async def test_what_is_typed_wrong_is_told(tmp_path: Path) -> None:
    """Half of a command, and options that do not go together."""
    async with scene(tmp_path) as here:
        half = await c2c(here.cf, "ca")
        flag = await c2c(here.cf, "ca", "--wait")
        typo = await c2c(here.cf, "ca", "lst")
        lone = await c2c(here.cf, "ca", "prepare", "--ca-cert", "a.pem")
        both = await c2c(here.cf, "ca", "prepare", "--undo", "--ca-cert", "a.pem")
        missing = await c2c(here.cf, "ca", "prepare", "--ca-cert", "/no.pem", "--ca-key", "/no.key")
        long = await c2c(here.cf, "ca", "prepare", "--ca-cert", f"/{'a' * 10_000}", "--ca-key", "k")
        early = await c2c(here.cf, "ca", "retire")

    known = "ca list, ca prepare, ca activate, ca retire"
    assert f"'ca' needs one more word: {known}\n" in half.err
    assert f"'ca' needs one more word: {known}\n" in flag.err
    assert f"'ca lst' is not a registered command, there are: {known}\n" in typo.err
    assert "--ca-cert and --ca-key must be used together" in lone.err
    assert "--ca-cert cannot be used with --undo" in both.err
    assert long.err == f"File '/{'a' * 78}... cannot be used: File name too long\n"
    assert missing.err == "File '/no.pem' cannot be used: No such file or directory\n"
    assert early.err == (
        "No CA is retiring: 'CN=c2c-control-plane CA' is the only CA ('c2c ca prepare' prepares "
        "another)\n"
    )
    assert {each.code for each in (half, flag, typo, lone, both, missing, long, early)} == {1}
