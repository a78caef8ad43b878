"""The one writer: durable before answered, in order, together where possible, and never stuck."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from control_plane import log_events
from control_plane import registry as module
from control_plane.errors import (
    AlreadyExists,
    InvalidRequest,
    NotFound,
    StorageError,
    Unavailable,
)
from control_plane.model.apps import create_app, delete_app, update_app
from control_plane.model.change import Change, Decision
from control_plane.model.entities import App
from control_plane.model.spec import AppSpec
from control_plane.model.state import State
from control_plane.names import AppGuid
from control_plane.registry import LARGEST_BATCH, Committed, Registry
from tests.unit.reconciler.clocks import settled

Asked = list["asyncio.Task[Committed[Any]]"]


class FakeStore:
    """A store that a test can hold up and break.

    Attributes:
        transactions: what was committed.
        begun: set when a commit has begun.
        proceed: commits wait until this is set.
        failures: what the next commits raise.
    """

    def __init__(self) -> None:
        self.transactions: list[Change] = []
        self.begun = asyncio.Event()
        self.proceed = asyncio.Event()
        self.proceed.set()
        self.failures: list[Exception] = []

    async def commit(self, change: Change, meanwhile: Callable[[], None]) -> None:
        """Wait for leave, then fail if the test says so."""
        self.begun.set()
        asyncio.get_running_loop().call_soon(meanwhile)
        await asyncio.sleep(0)
        await self.proceed.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.transactions.append(change)


@asynccontextmanager
async def running(store: FakeStore) -> AsyncIterator[Registry]:
    """Run a registry of an empty State, and expect it to end well."""
    registry = Registry(State(), store)
    async with written(registry, store):
        yield registry


@asynccontextmanager
async def written(registry: Registry, store: FakeStore) -> AsyncIterator[None]:
    """Let a registry work, and expect it to end well."""
    writer = asyncio.create_task(registry.run())
    try:
        yield
    finally:
        store.proceed.set()
        writer.cancel()
        with suppress(asyncio.CancelledError):
            await writer


def create(name: str, *, ssh: bool = False) -> Callable[[State], Decision[App]]:
    """Return a command that creates an app."""
    return lambda state: create_app(state, f"guid-{name}", AppSpec(name, ssh=ssh))


def names(state: State) -> list[str]:
    """Return the names of all apps."""
    return [app.key.name for app in state.all_apps()]


async def ask(registry: Registry, *commands: Callable[[State], Decision[Any]]) -> Asked:
    """Have commands asked for at the same moment, in this order."""
    asked = [asyncio.ensure_future(registry.execute(command)) for command in commands]
    await asyncio.sleep(0)  # each task now waits for its answer
    return asked


async def outcomes(asked: Asked) -> list[Committed[Any] | BaseException]:
    """Return each answer, or what was raised instead."""
    return await asyncio.gather(*asked, return_exceptions=True)


async def test_an_answer_has_what_its_command_did() -> None:
    """The result, the change and the revision are those of the command's own transaction."""
    async with running(FakeStore()) as registry:
        first = await registry.execute(create("a"))
        second = await registry.execute(create("b"))

        assert (first.result.guid, first.change.puts, first.revision) == (
            "guid-a",
            (first.result,),
            1,
        )
        assert (names(first.state), names(second.state)) == (["a"], ["a", "b"])
        assert registry.state is second.state
        assert registry.revision == second.revision == 2


async def test_where_several_commands_wait_others_are_waited_for() -> None:
    """They are on their way, and one transaction is enough for all."""
    store = FakeStore()
    async with running(store) as registry:
        first = await ask(registry, create("a"), create("b"))
        second = await ask(registry, create("c"), create("d"))
        await outcomes([*first, *second])

    assert [len(change.puts) for change in store.transactions] == [4]


async def test_a_command_alone_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do as many as one transaction takes."""
    monkeypatch.setattr(module, "GATHER_SECONDS", 60)
    monkeypatch.setattr(module, "LARGEST_BATCH", 3)
    store = FakeStore()
    async with running(store) as registry:
        await registry.execute(create("a"))
        await outcomes(await ask(registry, create("b"), create("c"), create("d")))

    assert [len(change.puts) for change in store.transactions] == [1, 3]


async def test_commands_that_come_on_and_on_are_written_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Others are waited for so often and no more."""
    monkeypatch.setattr(module, "LONGEST_GATHERING", 3)
    store = FakeStore()
    async with running(store) as registry:
        asked = await ask(registry, create("0"), create("1"))
        number = 2
        while not any(each.done() for each in asked):
            asked += await ask(registry, create(str(number)))
            number += 1
        await outcomes(asked)

    assert len(store.transactions) > 1


async def test_who_sends_a_change_goes_before_who_asked_for_it() -> None:
    """One who is woken by a subscriber, and wakes another, is not behind the answer."""
    order: list[str] = []
    loop = asyncio.get_running_loop()
    async with running(FakeStore()) as registry:

        def woken(_state: State, _change: Change) -> None:
            loop.call_soon(loop.call_soon, order.append, "sent")

        registry.subscribe(woken)
        await registry.execute(create("a"))
        order.append("answered")

    assert order == ["sent", "answered"]


async def test_who_foresees_is_told_while_it_is_written() -> None:
    """Before it is durable, of what the State will be, and also of what is not written then."""
    store = FakeStore()
    foreseen: list[tuple[list[str], Change]] = []
    async with running(store) as registry:
        registry.foresee(lambda state, change: foreseen.append((names(state), change)))
        store.proceed.clear()
        [asked] = await ask(registry, create("a"))
        await store.begun.wait()
        await asyncio.sleep(0)

        [(named, change)] = foreseen
        assert named == ["a"]
        assert names(registry.state) == []
        store.proceed.set()
        assert (await asked).change == change
        assert len(foreseen) == 1

        store.failures = [StorageError("the disk is full")]
        await outcomes(await ask(registry, create("b")))
        assert [named for named, _ in foreseen] == [["a"], ["a", "b"]]
        assert names(registry.state) == ["a"]


async def test_nobody_is_told_before_the_change_is_durable() -> None:
    """While the store is writing, the State is the old one and nothing is answered."""
    store = FakeStore()
    told: list[Change] = []
    async with running(store) as registry:
        registry.subscribe(lambda _, change: told.append(change))
        store.proceed.clear()
        [asked] = await ask(registry, create("a"))
        await store.begun.wait()

        assert not asked.done()
        assert names(registry.state) == []
        assert told == []

        store.proceed.set()
        await asked
        assert names(registry.state) == ["a"]
        assert len(told) == 1


async def test_commands_that_wait_share_a_transaction() -> None:
    """What arrives while the disk is busy is written at once when it is free."""
    store = FakeStore()
    async with running(store) as registry:
        store.proceed.clear()
        first = await ask(registry, create("a"))
        await store.begun.wait()
        others = await ask(registry, *(create(name) for name in "bcdef"))
        store.proceed.set()
        answers = [await each for each in [*first, *others]]

        assert [len(change.puts) for change in store.transactions] == [1, 5]
        assert [answer.revision for answer in answers] == [1, 2, 2, 2, 2, 2]


async def test_a_thousand_commands_at_once_take_few_transactions() -> None:
    """Each is answered, and no batch is so large that the event loop waits long for its turn."""
    store = FakeStore()
    async with running(store) as registry:
        asked = await ask(registry, *(create(f"app-{number}") for number in range(1000)))
        answers = [await each for each in asked]

        assert len(registry.state.apps) == 1000
        sizes = [len(change.puts) for change in store.transactions]
        assert sum(sizes) == 1000
        assert max(sizes) <= LARGEST_BATCH
        assert len(sizes) <= 1000 // LARGEST_BATCH + 2
        assert [answer.revision for answer in answers] == sorted(
            answer.revision for answer in answers
        )


async def test_commands_are_done_in_the_order_they_came() -> None:
    """Each sees what the one before it did, also within one transaction."""
    async with running(FakeStore()) as registry:
        created, deleted, again = await outcomes(
            await ask(
                registry,
                create("a"),
                lambda state: delete_app(state, AppGuid("guid-a")),
                create("a", ssh=True),
            )
        )

        assert isinstance(created, Committed)
        assert names(created.state) == ["a"]
        assert isinstance(deleted, Committed)
        assert names(deleted.state) == []
        assert isinstance(again, Committed)
        assert registry.state.apps[AppGuid("guid-a")].ssh
        assert created.revision == deleted.revision == again.revision == 1


async def test_a_refused_command_costs_the_others_nothing() -> None:
    """Its caller gets the refusal; the rest of its batch is done as if it had not been there."""
    store = FakeStore()
    async with running(store) as registry:
        asked = await ask(registry, create("a"), create("a", ssh=True), create("b"))
        first, refused, last = await outcomes(asked)

        assert isinstance(first, Committed)
        assert isinstance(refused, AlreadyExists)
        assert isinstance(last, Committed)
        assert names(registry.state) == ["a", "b"]
        assert len(store.transactions) == 1


async def test_a_defect_in_a_command_is_its_callers_alone() -> None:
    """Whatever a command raises, its caller gets it and the writer goes on."""

    def broken(state: State) -> Decision[App]:
        return Decision(state, state.apps[AppGuid("nobody")])

    async with running(FakeStore()) as registry:
        failed, done = await outcomes(await ask(registry, broken, create("a")))

        assert isinstance(failed, KeyError)
        assert isinstance(done, Committed)


async def test_a_command_that_changes_nothing_writes_nothing() -> None:
    """It is answered with the State and the revision that there are."""
    store = FakeStore()
    async with running(store) as registry:
        first = await registry.execute(create("a"))
        again = await registry.execute(create("a"))

        assert again.result == first.result
        assert not again.change
        assert again.revision == registry.revision == 1
        assert len(store.transactions) == 1


async def test_a_lost_transaction_leaves_everything_as_it_was() -> None:
    """All that were in it get a StorageError, and the next one goes on from the old State."""
    store = FakeStore()
    told: list[Change] = []
    async with running(store) as registry:
        registry.subscribe(lambda _, change: told.append(change))
        store.failures.append(StorageError("the change was not written: disk full"))
        lost = await outcomes(await ask(registry, create("a"), create("b")))

        assert [(type(each), str(each)) for each in lost] == [
            (StorageError, "the change was not written: disk full")
        ] * 2
        assert lost[0] is not lost[1]
        assert (names(registry.state), registry.revision, told) == ([], 0, [])

        assert (await registry.execute(create("b"))).revision == 1
        assert names(registry.state) == ["b"]


async def test_answers_that_rest_on_a_lost_change_are_lost_with_it() -> None:
    """What was decided before any change of the batch stands; what came after it does not."""
    store = FakeStore()
    store.failures.append(StorageError("lost"))
    async with running(store) as registry:
        unknown, created, same, other = await outcomes(
            await ask(
                registry,
                lambda state: update_app(state, AppGuid("guid-a"), AppSpec("a")),
                create("a"),
                create("a"),
                create("a", ssh=True),
            )
        )

        assert isinstance(unknown, NotFound)
        assert isinstance(created, StorageError)
        assert isinstance(same, StorageError)
        assert isinstance(other, StorageError)


async def test_what_needs_no_disk_is_answered_while_the_disk_is_busy() -> None:
    """A refusal of the published State does not wait for what others in its batch change."""
    store = FakeStore()
    store.proceed.clear()
    async with running(store) as registry:
        asked = await ask(
            registry,
            lambda state: update_app(state, AppGuid("guid-a"), AppSpec("a")),
            create("a"),
        )
        await store.begun.wait()
        refused, waiting = asked

        with pytest.raises(NotFound):
            await refused
        assert not waiting.done()
        store.proceed.set()
        await waiting


async def test_a_defect_of_the_store_is_a_storage_error() -> None:
    """The writer survives whatever a store raises, and tells the log what it was, not callers."""
    store = FakeStore()
    store.failures.append(RuntimeError("secret detail"))
    async with running(store) as registry:
        with capture_logs() as lines, pytest.raises(StorageError) as caught:
            await registry.execute(create("a"))

        assert str(caught.value) == "the change was not written: the store failed"
        assert [(each["event"], each["exc_info"]) for each in lines] == [
            (log_events.STORE_FAILED, True)
        ]
        assert (await registry.execute(create("b"))).revision == 1


async def test_what_follows_from_a_command_is_part_of_it() -> None:
    """It is in the answer, on the disk and in the State."""
    store = FakeStore()

    def amend(_before: State, decision: Decision[Any]) -> Decision[Any]:
        follow = create("follower")
        return decision.then(lambda state, result: replace(follow(state), result=result))

    registry = Registry(State(), store, amend)
    async with written(registry, store):
        committed = await registry.execute(create("a"))

        assert names(registry.state) == names(committed.state) == ["a", "follower"]
        assert committed.result.key.name == "a"
        assert store.transactions == [committed.change]


async def test_subscribers_are_told_once_a_transaction_in_order() -> None:
    """Each sees the published State with all that changed, before the callers are answered."""
    store = FakeStore()
    told: list[tuple[str, State, Change]] = []
    async with running(store) as registry:
        registry.subscribe(lambda state, change: told.append(("first", state, change)))
        registry.subscribe(lambda state, change: told.append(("second", state, change)))
        asked = await ask(registry, create("a"), create("b"))
        asked[0].add_done_callback(lambda _: told.append(("answer", State(), Change())))
        await outcomes(asked)
        await registry.execute(create("c"))

        assert [who for who, _, _ in told] == ["first", "second", "answer", "first", "second"]
        assert [names(state) for who, state, _ in told if who == "first"] == [
            ["a", "b"],
            ["a", "b", "c"],
        ]
        changes = [change for who, _, change in told if who == "second"]
        assert changes == store.transactions
        assert changes[0].apps == {"guid-a", "guid-b"}


async def test_a_subscriber_that_fails_takes_nobody_along() -> None:
    """The change is made: others hear of it, its caller is answered, the defect is reported."""
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    told: list[Change] = []

    def broken(_state: State, _change: Change) -> None:
        raise RuntimeError("broken")

    async with running(FakeStore()) as registry:
        registry.subscribe(broken)
        registry.subscribe(lambda _, change: told.append(change))

        assert (await registry.execute(create("a"))).revision == 1
        assert len(told) == 1
        assert [str(context["exception"]) for context in reported] == ["broken"]


async def test_a_caller_that_leaves_takes_nobody_along() -> None:
    """A cancelled caller's command may be done; the others of its batch are, and are answered."""
    store = FakeStore()
    async with running(store) as registry:
        store.proceed.clear()
        leaver, stayer = await ask(registry, create("a"), create("b"))
        await store.begun.wait()
        leaver.cancel()
        store.proceed.set()

        assert (await stayer).revision == 1
        assert leaver.cancelled()
        assert names(registry.state) == ["a", "b"]
        assert (await registry.execute(create("c"))).revision == 2


async def test_a_command_whose_caller_left_before_its_turn_is_not_done() -> None:
    """Nobody waits for it, so there is no reason to change anything."""
    store = FakeStore()
    async with running(store) as registry:
        store.proceed.clear()
        first = await ask(registry, create("a"))
        await store.begun.wait()
        leaver, last = await ask(registry, create("b"), create("c"))
        leaver.cancel()
        store.proceed.set()
        await outcomes([*first, leaver, last])

        assert names(registry.state) == ["a", "c"]


async def test_a_cancelled_writer_finishes_what_it_began() -> None:
    """The transaction is completed and answered; who waits behind it is told that it is over."""
    store = FakeStore()
    store.proceed.clear()
    registry = Registry(State(), store)
    writer = asyncio.create_task(registry.run())
    [begun] = await ask(registry, create("a"))
    await store.begun.wait()
    [waiting] = await ask(registry, create("b"))

    writer.cancel()
    await settled()
    assert not writer.done()  # or the store would be closed under the transaction
    store.proceed.set()
    with pytest.raises(asyncio.CancelledError):
        await writer

    assert (await begun).revision == 1
    with pytest.raises(Unavailable):
        await waiting
    with pytest.raises(Unavailable) as caught:
        await registry.execute(create("c"))
    assert str(caught.value) == "the server is stopping and takes no more changes"
    assert names(registry.state) == ["a"]


async def test_a_writer_that_is_cancelled_twice_finishes_what_it_began() -> None:
    """Whoever stops it may be told to hurry: the transaction is still finished, and answered."""
    store = FakeStore()
    store.proceed.clear()
    registry = Registry(State(), store)
    writer = asyncio.create_task(registry.run())
    (begun,) = await ask(registry, create("a"))
    await store.begun.wait()

    writer.cancel()
    await settled()
    writer.cancel()
    await asyncio.wait([writer])
    store.proceed.set()

    assert (await asyncio.wait_for(begun, 5)).result.key.name == "a"
    assert names(registry.state) == ["a"]


async def test_a_refusal_is_raised_as_it_was_meant() -> None:
    """Field and rule reach the caller."""
    async with running(FakeStore()) as registry:
        with pytest.raises(InvalidRequest) as caught:
            await registry.execute(create(""))

        assert (caught.value.field, caught.value.rule) == ("name", "app name missing")
