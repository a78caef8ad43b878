"""What the audit log says of a call that changes something: who, what, and how it ended."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.api.v1 import (
    app_pb2,
    app_pb2_grpc,
    join_token_pb2,
    join_token_pb2_grpc,
)
from control_plane.registry import Registry
from control_plane.server.observability.audit import CALLER_LEFT
from tests.security.applicants import applicant
from tests.security.slow_disk import SlowDisk
from tests.security.world import control_plane, enrol, refused, renew, told
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
    """A call that failed by a defect of ours is never logged as done."""

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
    disk = SlowDisk()
    async with control_plane(tmp_path) as cf, cf.operator() as channel:
        stub = app_pb2_grpc.AppServiceStub(channel)
        registry = cf.running.core.registry
        disk.slows_down(monkeypatch)
        with capture_logs() as lines:
            first = stub.CreateApp(app_pb2.CreateAppRequest(name="begun"))
            await disk.begun.wait()
            second = stub.CreateApp(app_pb2.CreateAppRequest(name="dropped"))
            await eventually(lambda: len(registry._waiting) == 1, "the second waits")
            first.cancel()
            second.cancel()
            await eventually(
                lambda: len(told(lines, log_events.AUDIT_COMMAND)) == 2, "both were told"
            )
            disk.go_on.set()
            await eventually(lambda: registry.revision == 1, "the first is made")
        commands = told(lines, log_events.AUDIT_COMMAND)
        apps = (await stub.ListApps(app_pb2.ListAppsRequest())).apps

    assert [each.name for each in apps] == ["begun"]
    assert {each["outcome"] for each in commands} == {CALLER_LEFT}


async def test_an_enrolment_whose_caller_left_is_told_and_keeps_no_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its token is as good as before, and nothing is left of an instance that nobody was."""
    disk = SlowDisk()
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        somebody = await applicant(cf)
        revision = cf.running.core.registry.revision
        with capture_logs() as lines:
            with monkeypatch.context() as patch:
                disk.slows_down(patch)
                enrolling = asyncio.create_task(somebody.enrol(address="127.0.2.1"))
                await disk.begun.wait()
                enrolling.cancel()
                await eventually(
                    lambda: bool(told(lines, log_events.AUDIT_ENROLLMENT_REFUSED)), "it is told"
                )
                disk.go_on.set()
                await eventually(
                    lambda: cf.running.core.registry.revision == revision + 2,
                    "it is registered, and removed",
                )
            assert not await cf.instances()
            assert not cf.running.core.registry.state.all_tombstones()
            enrolled = await somebody.enrol(address="127.0.2.1")
        (line,) = told(lines, log_events.AUDIT_ENROLLMENT_REFUSED)
        (told_of,) = told(lines, log_events.AUDIT_ENROLLED)
        instances = await cf.instances()

    assert (line["reason"], line["address"]) == (CALLER_LEFT, "'127.0.2.1'")
    assert told_of["instance"] == enrolled.instance_guid
    assert [each.guid for each in instances] == [enrolled.instance_guid]


async def test_with_which_token_somebody_enrolled_is_told(tmp_path: Path) -> None:
    """By its GUID, so that whoever knows which token got out knows who came in with it."""
    async with control_plane(tmp_path) as cf, cf.operator() as channel:
        await cf.create_app("app-b")
        first, second = await applicant(cf), await applicant(cf, uses=2)
        with capture_logs() as lines:
            by_first = await first.enrol(address="127.0.2.1")
            by_second = await second.enrol(address="127.0.2.2")
        stub = join_token_pb2_grpc.JoinTokenServiceStub(channel)
        answer = await stub.ListJoinTokens(join_token_pb2.ListJoinTokensRequest())
        (left,) = answer.tokens
        spent, good = cf.running.core.registry.state.all_tokens()
    enrolled = told(lines, log_events.AUDIT_ENROLLED)

    assert good.guid == left.guid
    assert [(each["instance"], each["join_token"]) for each in enrolled] == [
        (by_first.instance_guid, spent.guid),
        (by_second.instance_guid, left.guid),
    ]


async def test_a_renewal_whose_caller_left_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The identity that it has goes on to count, and renews when it asks again."""
    disk = SlowDisk()
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        old = await enrol(cf, "app-b", "127.0.2.1")
        with capture_logs() as lines:
            with monkeypatch.context() as patch:
                disk.slows_down(patch)
                renewing = asyncio.create_task(renew(cf, old, "127.0.0.1"))
                await disk.begun.wait()
                renewing.cancel()
                await eventually(
                    lambda: bool(told(lines, log_events.AUDIT_RENEWAL_REFUSED)), "it is told"
                )
                disk.go_on.set()
            await renew(cf, old, "127.0.0.1")
        (line,) = told(lines, log_events.AUDIT_RENEWAL_REFUSED)
        renewed = told(lines, log_events.AUDIT_IDENTITY_RENEWED)

    assert (line["reason"], line["instance"]) == (CALLER_LEFT, old.guid)
    assert len(renewed) == 1
