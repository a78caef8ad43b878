"""What a client makes up cannot forge a line of the log, steer a terminal or fill a disk."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

from control_plane.xds.resource_type import SECRET
from tests.faults.plane import plane
from tests.security.world import C2C_SECRET, enrol, map_route, stream

FORGED = json.dumps({"event": "audit.enrolled", "level": "info", "instance": "intruder"})
HOSTILE = f"\n{FORGED}\r\n\x1b[2J\x1b[31mred\x9b0m \u202eesrever\u2028{FORGED}\x00\u200b"
LONG = "x" * 1_000_000

LINE = 20_000
"""Characters that a line may have at the most, whatever is in it."""


async def test_the_text_of_a_nack_stays_one_harmless_line(tmp_path: Path) -> None:
    """Each event is one line of JSON with the event's own name, however hostile its texts are."""
    async with plane(tmp_path) as cf:
        await cf.create_app("app-b")
        holder = await enrol(cf, "app-b", "127.0.2.1")
        async with stream(cf, holder) as client:
            await client.send(
                type_url=SECRET,
                resource_names_subscribe=[C2C_SECRET, HOSTILE[:500]],
                node={"id": holder.guid, "user_agent_name": HOSTILE, "cluster": HOSTILE},
            )
            await client.nack(await client.receive(), HOSTILE)
            await map_route(cf, "app-b", "again")
            await client.nack(await client.receive(), HOSTILE + LONG)
            await client.send(type_url=HOSTILE[:500])
            await client.done_writing()
            await client.status()
        await cf.kill()
    events = [json.loads(line) for line in cf.log]

    assert len([each for each in events if each["event"] == "xds.nacked"]) == 2
    assert [each["instance"] for each in events if each["event"] == "audit.enrolled"] == [
        holder.guid
    ]
    assert any("intruder" in json.dumps(each) for each in events)  # as a text, and as nothing else
    assert max(map(len, cf.log)) < LINE
    assert not [line for line in cf.log if any(map(_is_unsafe, line))]
    assert not [each for event in events for each in texts(event) if any(map(_is_unsafe, each))]


def texts(value: object) -> list[str]:
    """Return every text in a line, as it is once JSON was read."""
    match value:
        case str():
            return [value]
        case dict():
            return [text for each in (*value, *value.values()) for text in texts(each)]
        case list():
            return [text for each in value for text in texts(each)]
        case _:
            return []


def _is_unsafe(character: str) -> bool:
    """Tell whether a terminal or a reader of lines could take a character for an instruction."""
    return unicodedata.category(character) in {"Cc", "Cf", "Zl", "Zp"}
