"""The control plane's end of the second process that issues certificates.

The rule of this module: the second process only makes things faster; nothing depends on it. It is
started when a crowd waits for the first time, and ends after a while without work. It takes nothing
before it is ready, while it has enough to do, and after it is gone. Certificates are then issued in
this process, so both work as long as there is work for both. Every instance given to it comes back,
with certificates or without.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from control_plane import log_events
from control_plane.ca import Authority, Leaf, Profile, Request
from control_plane.ca.parcel import AuthorityParcel, Order
from control_plane.clock import Clock
from control_plane.names import InstanceGuid
from control_plane.reconciler.certificates.issuer_process import (
    HEAD_OCTETS,
    Batch,
    Filled,
    Signer,
    frame,
    length_of,
    unframed,
)

AT_ONCE = 24
"""How many instances the process has at a time. That is some 10 ms of work, so it need not wait for
more, and the instances that it does not get to are soon dealt with in this process."""

IDLE_SECONDS = 60.0
"""After how many seconds without work the process is ended; it takes 30 MiB."""

PAUSE_SECONDS = 10.0
"""How long after a failure it may be started again."""

_ANSWER_SECONDS = 10.0
"""How long it may take over an answer before it counts as failed."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that the second process made.

    Attributes:
        request: what was asked for.
        sent_digest: the digest of the certificates that are sent after it.
        seconds: how long it took.
    """

    request: Request
    leaf: Leaf
    sent_digest: str
    seconds: float


Returned = Callable[[InstanceGuid, Mapping[str, Issued]], None]
"""Called for each instance that comes back, with what could be issued for it, by name."""


@dataclass(frozen=True, slots=True)
class _Given:
    instance: InstanceGuid
    requests: Mapping[str, Request]
    sent_digest: str


class Issuers:
    """Gives the certificates of some instances to the second process to issue."""

    def __init__(
        self,
        program: Sequence[str],
        authority: Callable[[], Authority],
        profile: Profile,
        new_serial: Callable[[], int],
        clock: Clock,
    ) -> None:
        """Start with no process.

        Args:
            program: the command that runs the process, which has to serve as ``issuer_process``
                says.
            authority: returns the current CA.
            profile: the profile of the certificates.
            new_serial: returns a serial number that was never used.
            clock: times the pause after a failure.
        """
        self._program = program
        self._authority = authority
        self._profile = profile
        self._new_serial = new_serial
        self._clock = clock
        self._wanted = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._given: deque[_Given] = deque()
        self._signs: Authority | None = None
        self._log = structlog.get_logger(__name__)

    def has_room(self) -> bool:
        """Tell whether the process takes another instance now; asking has it started."""
        self._wanted.set()
        return self._process is not None and len(self._given) < AT_ONCE

    def give(self, instance: InstanceGuid, requests: Mapping[str, Request], now: datetime) -> None:
        """Have certificates issued; ``run`` reports the outcome.

        Raises:
            RuntimeError: there is no room, as ``has_room`` would have said.
        """
        if self._process is None or self._process.stdin is None:
            raise RuntimeError("there is no room")
        authority = self._authority()
        is_new = authority is not self._signs
        signer = Signer(AuthorityParcel.of(authority), self._profile) if is_new else None
        orders = [Order(each, now, self._new_serial()) for each in requests.values()]
        given = _Given(instance, requests, authority.sent_digest)
        self._process.stdin.write(frame(Batch(orders, signer)))
        # After the write: an instance whose order was never written gets no answer and must not
        # wait for one.
        self._signs = authority
        self._given.append(given)
        self._wanted.set()

    async def run(self, returned: Returned) -> None:
        """Start the process when it is wanted, and take its answers, until cancelled.

        Args:
            returned: is called once for each instance that was given.
        """
        while True:
            await self._wanted.wait()
            try:
                await self._serve(returned)
            except Exception as error:  # noqa: BLE001 - whatever it is, all goes on without it
                self._log.warning(log_events.ISSUER_FAILED, exc_info=error)
                await self._clock.sleep(PAUSE_SECONDS)
            self._wanted.clear()

    async def _serve(self, returned: Returned) -> None:
        process = await asyncio.create_subprocess_exec(
            *self._program,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._answer(process, Batch([]))  # it is up
            self._process, self._signs = process, None
            while await self._is_needed():
                await self._take(process, returned)
        finally:
            self._process = None
            try:
                while self._given:  # before ending the process, which takes long if it hangs
                    returned(self._given.popleft().instance, {})
            finally:
                await _end(process)

    async def _answer(
        self, process: asyncio.subprocess.Process, batch: Batch | None = None
    ) -> Sequence[Filled]:
        if process.stdin is None or process.stdout is None:
            raise EOFError("no pipes")
        if batch is not None:
            process.stdin.write(frame(batch))
        head = await process.stdout.readexactly(HEAD_OCTETS)
        answer: Sequence[Filled] = unframed(await process.stdout.readexactly(length_of(head)))
        return answer

    async def _is_needed(self) -> bool:
        """Return True once an answer is due, and False after a long time without work."""
        if self._given:
            return True
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                while not self._given:
                    self._wanted.clear()
                    await self._wanted.wait()
        except TimeoutError:
            return False
        return True

    async def _take(self, process: asyncio.subprocess.Process, returned: Returned) -> None:
        """Take the next answer."""
        async with asyncio.timeout(_ANSWER_SECONDS):
            filled = await self._answer(process)
        given = self._given[0]
        pairs = zip(given.requests.items(), filled, strict=True)
        issued = {
            name: Issued(request, each.leaf, given.sent_digest, each.seconds)
            for (name, request), each in pairs
            if each.leaf is not None
        }
        self._given.popleft()
        returned(given.instance, issued)
        await asyncio.sleep(0)  # the next answer may be here already; let other tasks have a turn


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a process by closing its input, or kill it if it does not end in time.

    What it still writes is read and thrown away. asyncio reports the end of a process only after
    the end of its output, and stops reading after 128 KiB that nobody takes.
    """
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            await process.communicate()
    except TimeoutError:
        pass
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
