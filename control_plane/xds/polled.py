"""One request that is answered once: state of the world without a stream.

The rules of this module (quotations are from the xDS protocol, section "REST-JSON polling
subscriptions"):

1. "No persistent stream is maintained to the management server": nothing is remembered from one
   poll to the next, and what a client has is what its request says.
2. So the version of an answer is the hash of exactly the resources in it. If these are all
   resources of a type, it equals the version on a stream. A client that asks for other names than
   before is due another version, and so gets an answer: "the server must resend any newly requested
   resources".
3. "There is also a requirement to avoid sending a DiscoveryResponse unless a change to the
   underlying resources has occurred": a request is not answered with a version that it names, be it
   the version that the client has or the one that it refuses.
4. "The response nonce is optional": the nonce of an answer is its version. So any server can tell
   from a request with a nonce what the client accepts or refuses; a request without a nonce says
   what the client has.
5. An answer has everything that was asked for, because no later answer could bring the rest. For
   types for which "an empty DiscoveryResponse is effectively a no-op", no empty answer is sent. For
   types whose answers are complete, none is sent while something in it is still being made, because
   leaving that out would delete it.
6. No TTL is sent, because no heartbeat could follow it.
7. If a client takes errors, each answer tells it why names that it asked for do not exist, because
   nothing is remembered of what an earlier answer said. Errors are content like any other, and so
   part of the version; and an answer with errors is not empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from control_plane.xds.events import Event, Nacked
from control_plane.xds.messages import ErrorDetail, Reply, SotwRequest
from control_plane.xds.resource import (
    NOTHING,
    Nonce,
    Version,
    version_of,
    version_of_all,
    versions_in,
)
from control_plane.xds.resource_error import errors_of
from control_plane.xds.snapshot import Snapshot, TypeSnapshot
from control_plane.xds.sotw import SotwMachine
from control_plane.xds.stream import Stream


class Poll:
    """A request of one type, and the answer to it."""

    __slots__ = ("_request", "_stream")

    def __init__(self, stream: Stream, request: SotwRequest) -> None:
        """Describe a request that was not processed yet.

        Args:
            stream: a stream of the request's type, for this request alone; its node is known.
            request: the client's request.
        """
        self._stream = stream
        self._request = request

    def receive(self, snapshot: Snapshot, now: float) -> tuple[Event, ...]:
        """Take the request; return the events in it.

        Args:
            snapshot: all that the node should have.
            now: seconds of the server's monotonic clock.

        Raises:
            PeerProtocolError: the request is of another type.
            PeerLimitExceeded: the client asks for more than the limits allow.
        """
        told = self._stream.receive(self._request, now)
        nonce, error = self._request.response_nonce, self._request.error_detail
        machine = self._machine()
        answer = self._wanted(self._stream.content(machine.type.url, snapshot))
        version = answer.version
        if version == nonce or (error is None and version == self._request.version_info):
            machine.exchange.send(answer.nonce, versions_in(answer.resources), now)
            settled = machine.exchange.settle(error, now)
            if error is None:
                machine.exchange.forget_gone(snapshot.of_type(machine.type.url).knows)
            machine.exchange.pay(tuple(machine.exchange.owed))
            return (*told, settled) if nonce else told
        if error is not None:
            return *told, Nacked(machine.type.url, nonce, NOTHING, error)
        return told

    def reply(self, snapshot: Snapshot, now: float) -> Reply | None:
        """Return the answer; None as long as there is nothing to say.

        Args:
            snapshot: all that the node should have.
            now: seconds of the server's monotonic clock.
        """
        machine = self._machine()
        content = self._stream.content(machine.type.url, snapshot)
        answer = self._wanted(content)
        if answer.version in (self._request.version_info, self._request.response_nonce):
            return None
        if machine.type.complete:
            unmade = content.pending | content.recorded.keys()
            if any(machine.wants(name, content) for name in unmade):
                return None
        elif not (answer.resources or answer.errors):
            return None
        machine.exchange.send(answer.nonce, versions_in(answer.resources), now)
        return self._stream.as_told(answer)

    def _machine(self) -> SotwMachine:
        (machine,) = self._stream.machines.values()
        return cast("SotwMachine", machine)  # since the request is a SotwRequest

    def _wanted(self, content: TypeSnapshot) -> Reply:
        """Return what an answer would have: everything that the request asks for."""
        machine = self._machine()
        resources = tuple(machine.subscription.wanted(content))
        versions = versions_in(resources)
        errors: Mapping[str, ErrorDetail] = NOTHING
        if machine.tells_errors:
            errors = errors_of(sorted(machine.absent(content)), content)
        if errors:
            version = version_of_all(versions | _versions_of_errors(errors))
        elif len(resources) == len(content.resources):
            version = content.version
        else:
            version = version_of_all(versions)
        return Reply(machine.type.url, Nonce(version), version, resources, errors=errors)


def _versions_of_errors(errors: Mapping[str, ErrorDetail]) -> dict[str, Version]:
    return {
        name: version_of(f"{each.code} {each.message}".encode()) for name, each in errors.items()
    }
