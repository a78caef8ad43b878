"""A start while the disk is full: what is there is served, and what needs room is refused."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from pathlib import Path

from tests.faults.plane import plane
from tests.full_disk import need_full_disk, on_a_full_disk
from tests.installed import C2C_WORD
from tests.sidecar.scene import scene
from tests.waiting import ENDS


async def _logged(process: asyncio.subprocess.Process, event: str) -> list[str]:
    """Read the log up to an event, and return what comes before it."""
    assert process.stderr is not None
    before: list[str] = []
    async with asyncio.timeout(ENDS):
        while line := (await process.stderr.readline()).decode():
            with contextlib.suppress(ValueError):
                if json.loads(line)["event"] == event:
                    return before
            before.append(line)
    need_full_disk(await process.wait(), "".join(before))
    raise AssertionError(f"no {event} in: {''.join(before)}")


async def test_a_control_plane_starts_on_a_full_disk(tmp_path: Path) -> None:
    """It serves what it has and refuses changes until there is room, without another start."""
    async with plane(tmp_path) as here:
        await here.create_app("kept")
    data = here.settings.data_dir
    script = f"""
        export C2C_DATA_DIR={data}
        {C2C_WORD} serve --log-format json --xds-address 127.0.0.1:0 --enroll-address 127.0.0.1:0 \
            --http-address 127.0.0.1:0 & SERVER=$!
        trap 'kill $SERVER && wait $SERVER' EXIT
        read started
        {C2C_WORD} app kept || exit 1
        {C2C_WORD} create-app refused 2>&1 && exit 1
        rm $ROOM
        {C2C_WORD} create-app accepted || exit 1
    """
    process = await asyncio.create_subprocess_exec(
        *on_a_full_disk(data, script, size="1m"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    before = await _logged(process, "server.started")
    wrote, log = await asyncio.wait_for(process.communicate(b"\n"), ENDS)

    assert process.returncode == 0, (wrote, log)
    assert b"hange was not written: database or disk is full" in wrote
    (told,) = [json.loads(line) for line in before if '"store.failed"' in line]
    assert (told["level"], told["reason"]) == (
        "error",
        f"No space left on device: changes are refused until '{data}' can be written to",
    )


async def test_a_sidecar_starts_again_on_a_full_disk(tmp_path: Path) -> None:
    """It is who it was, and the app has the trust files of the start before; all is in the log."""
    app = ("sleep", "600")
    async with scene(tmp_path) as here:
        async with here.instance(command=app) as first:
            await first.logged("app.started")
            await here.caller.reaches(here.address)
            known = here.instance_guid
            await first.stop()
        script = f"""
            exec {C2C_WORD} sidecar --log-format json --drain-time 0s --offline-wait 0s \
                --dir {here.directory} --address {here.address} \
                --server {here.cf.settings.enroll_address} -- {" ".join(app)}
        """
        process = await asyncio.create_subprocess_exec(
            *on_a_full_disk(here.directory, script, size="2m"), stderr=asyncio.subprocess.PIPE
        )
        lines = await _logged(process, "app.started")
        await here.caller.reaches(here.address)
        process.terminate()
        _, wrote = await asyncio.wait_for(process.communicate(), ENDS)

        assert here.instance_guid == known
    lines += wrote.decode().splitlines()
    errors = [each for each in map(json.loads, lines) if each["level"] == "error"]
    assert [each["event"] for each in errors] == [
        "identity.renewal_failed",
        "trust.not_exported",
        "app.not_noted",
    ]
    # None was asked for: one that is issued counts, and the one before would open no stream.
    assert "cannot keep an identity" in errors[0]["reason"]
    assert process.returncode == 128 + signal.SIGTERM
