"""The one writer of State: it executes commands, makes them durable, and then tells everybody.

The rule of this module: nothing is sent or answered based on a State that is not on disk. Waiting
commands are taken together: each is decided on the State that the previous one led to, and all are
written in one transaction (group commit). Only then is the new State published and are the callers
answered. If the write fails, each command whose answer depends on a change in it fails too. Its
caller gets a StorageError and may simply ask again, since commands are idempotent. ``foresee``
shows a State while it is being written, so that subscribers can work ahead and keep the result
until the State is published.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import structlog

from control_plane import log_events
from control_plane.errors import StorageError, Unavailable
from control_plane.model.change import Change, Decision, merged
from control_plane.model.state import State
from control_plane.undisturbed import undisturbed

Result = TypeVar("Result")

Command = Callable[[State], Decision[Result]]
"""Decides what becomes of a State; raises InvalidRequest if it refuses.

Its decision may be thrown away, since the disk may fail. So a command never awaits, and changes
nothing except through its Decision; nearly all commands are pure functions of the State. Enrolment
and renewal have to read the clock and sign here, so that a certificate says what the same
transaction writes; it is given to nobody before that is on disk. Enrolment also notes that its
instance is starting, for the commands behind it, and takes that back if it fails.
"""

Amendment = Callable[[State, Decision[Any]], Decision[Any]]
"""Adds to the effect of a command on a State what follows from it, whichever command it was.

It may read a clock; otherwise the same holds for it as for a command.
"""

Condition = Callable[[Command[Any]], Command[Any]]
"""Returns what is executed in the place of a command, such as one that refuses more; called where
the command is asked for."""

Subscriber = Callable[[State, Change], None]
"""Called for each transaction, in order, with the State and with all that changed; returns at
once."""

LARGEST_BATCH = 256
"""How many commands one transaction has at most; between two transactions the event loop has to get
a turn."""

GATHER_SECONDS = 0.001
"""How long the writer waits for more commands when several wait; as long again if some came."""

LONGEST_GATHERING = 20
"""How often it does so at most."""

_STOPPING = "the server is stopping and takes no more changes"


class Disk(Protocol):
    """Where changes are written."""

    async def commit(self, change: Change, meanwhile: Callable[[], None]) -> None:
        """Write a change, as ``Store`` does."""


@dataclass(frozen=True, slots=True)
class Committed(Generic[Result]):
    """The answer to a command whose effect is on disk.

    Attributes:
        state: the State that the command led to; later commands may have changed it further by now.
        change: what this command changed.
        revision: the revision of the published State that includes the change; grows with each
            transaction since the process started.
    """

    result: Result
    state: State
    change: Change
    revision: int


_Verdict = Decision[Any] | Exception


@dataclass(eq=False, slots=True)
class _Request:
    command: Command[Any]
    answer: asyncio.Future[Committed[Any]]

    def settle(self, verdict: _Verdict, revision: int) -> None:
        """Answer the caller, unless it has left."""
        if self.answer.done():
            return
        if isinstance(verdict, Exception):
            self.answer.set_exception(verdict)
        else:
            self.answer.set_result(
                Committed(verdict.result, verdict.state, verdict.change, revision)
            )


class Registry:
    """Owns the State; the only place where it changes."""

    def __init__(
        self,
        state: State,
        store: Disk,
        amend: Amendment | None = None,
        condition: Condition | None = None,
    ) -> None:
        """Start from the State in the store.

        Args:
            state: the State that was read from the store.
            store: where changes are written.
            amend: adds to each Decision what follows from it; None if nothing does.
            condition: what each command depends on besides the State; None if on nothing.
        """
        self._state = state
        self._store = store
        self._amend = amend or _as_it_is
        self._condition = condition
        self._revision = 0
        self._subscribers: list[Subscriber] = []
        self._foreseeing: list[Subscriber] = []
        self._waiting: deque[_Request] = deque()
        self._wake = asyncio.Event()
        self._is_over = False
        self._log = structlog.get_logger(__name__)

    @property
    def state(self) -> State:
        """The newest State that is on disk."""
        return self._state

    @property
    def revision(self) -> int:
        """How many transactions led to that State since the process started."""
        return self._revision

    def subscribe(self, subscriber: Subscriber) -> None:
        """Call a subscriber for every transaction from now on."""
        self._subscribers.append(subscriber)

    def foresee(self, subscriber: Subscriber) -> None:
        """Show a subscriber each State while it is being written, which may still fail."""
        self._foreseeing.append(subscriber)

    async def execute(self, command: Command[Result]) -> Committed[Result]:
        """Have a command executed, and return once its change is on disk.

        Cancelling the caller does not undo a command that was begun.

        Raises:
            InvalidRequest: the command refuses; nothing changed.
            StorageError: the change could not be written; nothing changed.
            Unavailable: ``run`` was cancelled.
        """
        if self._is_over:
            raise Unavailable(_STOPPING)
        executed = command if self._condition is None else self._condition(command)
        request = _Request(executed, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self._wake.set()
        return await request.answer

    async def settled(self) -> State:
        """Return the State to which all commands before this call led, once it is on disk.

        Raises:
            StorageError: it could not be written.
            Unavailable: ``run`` was cancelled.
        """
        return (await self.execute(lambda state: Decision(state, None))).state

    async def run(self) -> None:
        """Execute commands until cancelled; exactly one task has to run this.

        A transaction that was begun is finished, and its callers are answered. Callers that wait
        behind it, or ask later, are told that the server is stopping.
        """
        try:
            while True:
                if self._waiting:
                    await self._gather()
                    await undisturbed(self._do(self._next_batch()))
                else:
                    self._wake.clear()
                    await self._wake.wait()
        finally:
            self._is_over = True
            while self._waiting:
                self._waiting.popleft().settle(Unavailable(_STOPPING), self._revision)

    async def _gather(self) -> None:
        """If several commands wait, give those that are on their way time to arrive.

        A transaction takes longer than they do, and sending what follows from it takes longer
        still. A single command does not wait. (PostgreSQL has ``commit_delay`` and
        ``commit_siblings`` for this.)
        """
        before = 1
        for _ in range(LONGEST_GATHERING):
            if not before < len(self._waiting) < LARGEST_BATCH:
                return
            before = len(self._waiting)
            await asyncio.sleep(GATHER_SECONDS)

    def _next_batch(self) -> list[_Request]:
        """Return the requests that waited longest, except those whose callers have left."""
        size = min(len(self._waiting), LARGEST_BATCH)
        requests = [self._waiting.popleft() for _ in range(size)]
        return [request for request in requests if not request.answer.done()]

    async def _do(self, requests: Sequence[_Request]) -> None:
        """Decide, write, publish, answer, in this order: each step relies on the previous one.

        A command that is decided on the published State and changes nothing needs no disk. It is
        answered at once, whatever becomes of the others.
        """
        state = self._state
        unwritten: list[tuple[_Request, _Verdict]] = []
        changes: list[Change] = []
        for request in requests:
            verdict = self._judge(request.command, state)
            if isinstance(verdict, Decision) and verdict.change:
                state = verdict.state
                changes.append(verdict.change)
            if changes:
                unwritten.append((request, verdict))
            else:
                request.settle(verdict, self._revision)
        if not changes:
            return
        change = merged(changes)
        foresee = partial(self._tell, self._foreseeing, state, change)
        failure = await self._write(change, len(changes), foresee)
        if failure is None:
            self._state = state
            self._revision += 1
            self._tell(self._subscribers, state, change)
            await asyncio.sleep(0)  # senders of the change have a turn before its callers
        for request, verdict in unwritten:
            request.settle(StorageError(failure) if failure else verdict, self._revision)

    def _judge(self, command: Command[Any], state: State) -> _Verdict:
        try:
            return self._amend(state, command(state))
        except Exception as error:  # noqa: BLE001 - whatever it is, its own caller is told
            return error

    async def _write(
        self, change: Change, commands: int, meanwhile: Callable[[], None]
    ) -> str | None:
        """Write the change that so many commands make to disk; if that fails, return why."""
        try:
            await self._store.commit(change, meanwhile)
        except StorageError as error:
            self._log.error(log_events.STORE_FAILED, reason=str(error), commands=commands)
            return str(error)
        except Exception:  # noqa: BLE001 - a store's defect must not end the one writer
            self._log.exception(log_events.STORE_FAILED, commands=commands)
            return "the change was not written: the store failed"
        return None

    def _tell(self, subscribers: Iterable[Subscriber], state: State, change: Change) -> None:
        for subscriber in subscribers:
            try:
                subscriber(state, change)
            except Exception as error:  # noqa: BLE001 - the change is made all the same
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "a subscriber of the registry failed", "exception": error}
                )


def _as_it_is(_before: State, decision: Decision[Any]) -> Decision[Any]:
    return decision
