"""What the audit log says of a call that changes something: who, what, and how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest
from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.api.v1 import app_pb2, app_pb2_grpc
from control_plane.model.change import Change
from control_plane.registry import Registry
from control_plane.store.sqlite import SqliteStore
from tests.security.world import control_plane, refused, told
from tests.waiting import eventually


async def test_what_was_done_and_what_was_refused_is_told(tmp_path: Path) -> None:
    """A change has its revision, a refusal its reason; what only reads is not told."""
    async with control_plane(tmp_path) as cf, cf.operator() as channel:
        apps = app_pb2_grpc.AppServiceStub(channel)
        with capture_logs() as lines:
            created = await apps.CreateApp(app_pb2.CreateAppRequest(name="shop"))
            _, reason = await refused(apps.CreateApp(app_pb2.CreateAppRequest(name="a b")))
            await apps.ListApps(app_pb2.ListAppsRequest())
        commands = told(lines, log_events.AUDIT_COMMAND)

    assert [(each["method"], each["request"], each["operator"]) for each in commands] == [
        ("CreateApp", {"name": "shop"}, "local"),
        ("CreateApp", {"name": "a b"}, "local"),
    ]
    assert [(each["outcome"], each["revision"]) for each in commands] == [
        ("done", created.revision),
        (reason, 0),
    ]
    assert created.revision > 0


async def test_a_defect_is_told_as_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody reads that something was done when nobody knows."""

    async def broken(_registry: Registry, _command: object) -> None:
        raise RuntimeError("a defect")

    async with control_plane(tmp_path) as cf, cf.operator() as channel:
        monkeypatch.setattr(Registry, "execute", broken)
        with capture_logs() as lines:
            call = app_pb2_grpc.AppServiceStub(channel).CreateApp(
                app_pb2.CreateAppRequest(name="shop")
            )
            assert (await refused(call))[0] is grpc.StatusCode.INTERNAL
        monkeypatch.undo()

    (line,) = told(lines, log_events.AUDIT_COMMAND)
    assert line["outcome"] == "failed"


async def test_a_call_whose_caller_left_is_not_told_as_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two changes that were given up, the one that was begun is made and the other dropped."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    commit = SqliteStore.commit

    async def slow(store: SqliteStore, changes: Sequence[Change]) -> None:
        begun.set()
        await go_on.wait()
        await commit(store, changes)

    async with control_plane(tmp_path) as cf, cf.operator() as channel:
        stub = app_pb2_grpc.AppServiceStub(channel)
        registry = cf.running.core.registry
        monkeypatch.setattr(SqliteStore, "commit", slow)
        with capture_logs() as lines:
            first = stub.CreateApp(app_pb2.CreateAppRequest(name="begun"))
            await begun.wait()
            second = stub.CreateApp(app_pb2.CreateAppRequest(name="dropped"))
            await eventually(lambda: len(registry._waiting) == 1, "the second waits")
            first.cancel()
            second.cancel()
            await eventually(
                lambda: len(told(lines, log_events.AUDIT_COMMAND)) == 2, "both were told"
            )
            go_on.set()
            await eventually(lambda: registry.revision == 1, "the first is made")
        commands = told(lines, log_events.AUDIT_COMMAND)
        apps = (await stub.ListApps(app_pb2.ListAppsRequest())).apps

    assert [each.name for each in apps] == ["begun"]
    assert {each["outcome"] for each in commands} == {"the caller left before it was answered"}
