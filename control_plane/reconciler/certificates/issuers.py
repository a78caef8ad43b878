"""The control plane's end of the second process that issues certificates.

The rule of this module: it only makes things faster; nothing depends on it. It is started when
there is a crowd for the first time, and ends when there was none for a while. Until it is ready,
when it has enough to do, and when it is gone, it takes nothing, and certificates are issued in this
process; so both work while there is work for both. Whatever it was given comes back, issued or not.
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
"""Instances whose certificates it has to make at a time: some 10 ms of work, so that it need not
wait for more, and what it does not get to is soon issued elsewhere."""

IDLE_SECONDS = 60.0
"""Seconds without work after which it is ended; it takes 30 MiB."""

PAUSE_SECONDS = 10.0
"""After it failed, when it may be started again."""

_ANSWER_SECONDS = 10.0
"""How long it may take over what it has, before it counts as failed."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that the second process made.

    Attributes:
        request: what it was asked for.
        sent_digest: the digest of what is sent after it.
        seconds: how long it took.
    """

    request: Request
    leaf: Leaf
    sent_digest: str
    seconds: float


Returned = Callable[[InstanceGuid, Mapping[str, Issued]], None]
"""Is told of an instance that comes back, with what could be issued for it, by name."""


@dataclass(frozen=True, slots=True)
class _Given:
    instance: InstanceGuid
    requests: Mapping[str, Request]
    sent_digest: str


class Issuers:
    """Gives the certificates of some instances to the second process."""

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
            program: the command that runs it, which serves as ``issuer_process`` says.
            authority: returns the CA of the moment.
            profile: of what is issued.
            new_serial: returns a serial number that was never used.
            clock: tells the validity, and when to give up.
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
        """Tell whether it takes another instance now; to ask has it started."""
        self._wanted.set()
        return self._process is not None and len(self._given) < AT_ONCE

    def give(self, instance: InstanceGuid, requests: Mapping[str, Request], now: datetime) -> None:
        """Have certificates issued; what becomes of them is told as ``run`` says.

        Raises:
            RuntimeError: ``has_room`` would have said that there is none.
        """
        if self._process is None or self._process.stdin is None:
            raise RuntimeError("there is no room")
        authority = self._authority()
        is_new = authority is not self._signs
        signer = Signer(AuthorityParcel.of(authority), self._profile) if is_new else None
        orders = [Order(each, now, self._new_serial()) for each in requests.values()]
        given = _Given(instance, requests, authority.sent_digest)
        self._process.stdin.write(frame(Batch(orders, signer)))
        # What failed before it was written has no answer, so it must not wait for one.
        self._signs = authority
        self._given.append(given)
        self._wanted.set()

    async def run(self, returned: Returned) -> None:
        """Start the process when it is wanted, and take what comes back, until cancelled.

        Args:
            returned: is told of each instance that was given, once.
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
                while self._given:  # before it is ended, which takes long if it hangs
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
        """Return True once there is something to take, and False if there was nothing for long."""
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
        await asyncio.sleep(0)  # the next answer may be here already, and others want a turn


async def _end(process: asyncio.subprocess.Process) -> None:
    """End it by closing its input, or at once if it does not.

    What it has still written is read, for nobody: asyncio tells of the end of a process after the
    end of its output, and takes no more than 128 KiB of it that nobody reads.
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
