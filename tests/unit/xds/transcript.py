"""Runs a transcript: what client and operator do, and what the server says to that.

A transcript is blocks with an empty line between them. A block has commands, a line ``----``, and
what came of them. All commands of a block happen before the server looks what it has to send.

    open delta|sotw [restart]      a client opens a stream; before that the server restarted
    set CDS c@1 ?d =e@1            what the node should have of a type: content, pending, recorded
    ask SDS +s -t has s@1          a delta request: names, and the versions that it states
    ask SDS s t has s@1            a SotW request: names, and the content whose version it states
    ack SDS [...], nack SDS [...]  the answer to the last response, with names as above
    stale SDS [...]                a request that was written before the last response was read
    wait 1                         seconds pass
    missing, status                what has to be made anew; how far each resource got
"""

from __future__ import annotations

from collections.abc import Mapping

from control_plane.xds.delivery import deliveries
from control_plane.xds.events import (
    Acked,
    Connected,
    Event,
    Nacked,
    Stale,
    Subscribed,
    Unsubscribed,
)
from control_plane.xds.messages import DeltaRequest, ErrorDetail, Node, Reply, Request, SotwRequest
from control_plane.xds.refusal import NodeRefusals
from control_plane.xds.resource import Version
from control_plane.xds.resource_type import ResourceTypes
from control_plane.xds.snapshot import Snapshot
from control_plane.xds.stream import Stream
from tests.unit.xds.notation import content, short_of, url_of, version


class Transcript:
    """One node with the server that it talks to."""

    def __init__(self) -> None:
        """Start with a node that has nothing."""
        self._labels: dict[Version, str] = {}
        self._snapshot = Snapshot()
        self._refusals = NodeRefusals()
        self._now = 0.0
        self._said: list[str] = []
        self._open("delta")

    def run(self, text: str) -> str:
        """Return a transcript with what comes of its commands now."""
        blocks = text.strip().split("\n\n")
        return "\n\n".join(map(self._run_block, blocks)) + "\n"

    def _run_block(self, block: str) -> str:
        before, rule, _ = block.partition("\n----")
        if not rule:
            return block
        self._said = []
        for line in before.splitlines():
            command, *words = line.split()
            if command != "#":
                self._do(command, words)
        for reply in self._stream.replies(self._snapshot, self._now):
            self._nonces[short_of(reply.type_url)] = [
                *self._nonces.get(short_of(reply.type_url), ["", ""]),
                reply.nonce,
            ]
            self._said.append(self._shown(reply))
        retry = self._stream.next_due(self._now)
        if retry is not None:
            self._said.append(f"next look in {retry - self._now:g} s")
        return "\n".join([before, "----", *(self._said or ["nothing"])])

    def _do(self, command: str, words: list[str]) -> None:
        match command, words:
            case "open", [variant, *restart]:
                self._refusals = NodeRefusals() if restart else self._refusals
                self._open(variant)
            case "set", [short, *labels]:
                self._learn(labels)
                kind = content(short, " ".join(labels))
                self._snapshot = Snapshot({**self._snapshot.types, url_of(short): kind})
            case "wait", [seconds]:
                self._now += float(seconds)
            case "missing", []:
                self._say_missing()
            case "status", []:
                self._say_status()
            case (("ask" | "ack" | "nack" | "stale"), [short, *rest]):
                self._request(command, short, rest)
            case _:
                raise ValueError(f"no such command: {command} {words}")

    def _open(self, variant: str) -> None:
        self._delta = {"delta": True, "sotw": False}[variant]
        self._stream = Stream(ResourceTypes.of())
        self._stream.bind(self._refusals)
        self._nonces: dict[str, list[str]] = {}
        self._names: dict[str, list[str]] = {}

    def _learn(self, labels: list[str]) -> None:
        self._labels |= {version(label.lstrip("=")): label.lstrip("=") for label in labels}

    def _request(self, command: str, short: str, words: list[str]) -> None:
        split = words.index("has") if "has" in words else len(words)
        names, stated = words[:split], words[split + 1 :]
        self._learn(stated)
        before, last = self._nonces.get(short, ["", ""])[-2:]
        nonce = {"ask": "" if self._delta else last, "stale": before}.get(command, last)
        error = ErrorDetail(13, "no") if command == "nack" else None
        request: Request
        if self._delta:
            request = DeltaRequest(
                url_of(short),
                tuple(name[1:] for name in names if name[0] == "+"),
                tuple(name[1:] for name in names if name[0] == "-"),
                {label.partition("@")[0]: version(label) for label in stated},
                nonce,
                error,
                Node("instance-1"),
            )
        else:
            if command in {"ack", "nack"} and not names:
                names = self._names.get(short, [])
            self._names[short] = names
            info = content(short, " ".join(stated)).version if stated else ""
            node = Node("instance-1")
            request = SotwRequest(url_of(short), tuple(names), info, nonce, error, node)
        self._stream.identify(request)
        self._said += map(self._told, self._stream.receive(request, self._now))

    def _told(self, event: Event) -> str:
        match event:
            case Subscribed(url, names):
                return f"subscribed {short_of(url)} {' '.join(sorted(names))}"
            case Unsubscribed(url, names):
                return f"unsubscribed {short_of(url)} {' '.join(sorted(names))}"
            case Acked(url, nonce, versions):
                return f"acked n{nonce} {short_of(url)} {self._listed(versions)}".rstrip()
            case Nacked(url, nonce, versions, error):
                listed = self._listed(versions)
                return f"nacked n{nonce} {short_of(url)} {listed}: {error.message}"
            case Stale(url, nonce):
                return f"stale n{nonce} {short_of(url)}"
            case Connected(node):
                return f"connected {node.id}"

    def _listed(self, versions: Mapping[str, Version | None]) -> str:
        return " ".join(
            f"-{name}" if each is None else self._labels[each] for name, each in versions.items()
        )

    def _shown(self, reply: Reply) -> str:
        resources = " ".join(each.body.decode() for each in reply.resources)
        said = f"sent n{reply.nonce} {short_of(reply.type_url)} [{resources}]"
        return f"{said} removed [{' '.join(reply.removed)}]" if self._delta else said

    def _say_missing(self) -> None:
        missing = sorted(self._stream.missing(self._snapshot))
        self._said += [f"missing {short_of(url)} {name}" for url, name in missing]

    def _say_status(self) -> None:
        for each in deliveries(self._stream, self._snapshot):
            label = self._labels[each.version]
            has = self._labels[each.accepted] if each.accepted else "nothing"
            line = f"{short_of(each.type_url)} {label} {each.status.value}, client has {has}"
            self._said.append(line)
