"""What ``status`` says of one instance, and of what it should have and cannot get."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control_plane.api.v1 import inspection_pb2
from control_plane.model.apps import update_app
from control_plane.model.entities import InstanceStatus
from control_plane.model.instances import set_status
from control_plane.model.spec import AppSpec
from control_plane.names import InstanceGuid
from control_plane.reconciler.membership.status import Word
from control_plane.reconciler.served.attestation import REPORT_SECONDS
from control_plane.server.api.inspection_status import StatusMessages
from control_plane.server.metrics.alarms import AlarmCollector
from control_plane.server.observability.alarms import InstanceAlarms
from tests.unit.model.world import B, mapping, register, world
from tests.unit.reconciler.clocks import settled
from tests.unit.reconciler.proving import Scene
from tests.unit.server.inspected import inspected

B0 = InstanceGuid("b0")
SERVED = inspection_pb2.CERTIFICATE_STATE_SERVED
LISTENS, CLOSED = (Word(listening=each, leaving=False) for each in (True, False))
HANGS = Word(listening=True, leaving=False, not_serving=True)
DRAINS = Word(listening=True, leaving=False, draining=True)
LEAVES = Word(listening=True, leaving=True)


def _status(
    scene: Scene,
    *,
    word: Word | None = None,
    has_identity: bool = False,
) -> inspection_pb2.InstanceStatus:
    shown = inspected(scene, word=word, has_identity=has_identity)
    return StatusMessages(shown, scene.state, resources=False).of(scene.state.instances[B0])


def _counted(scene: Scene, word: Word | None = None) -> dict[str, float]:
    """Return how many instances have an alarm, by its kind, where there are some."""
    alarms = InstanceAlarms(
        scene.reconciler.standing.plan_failure, lambda _: word, scene.nodes, scene.attestation
    )
    is_current = scene.reconciler.standing.is_current
    found = AlarmCollector(lambda: scene.state, alarms, is_current, lambda _: False).collect()
    (family,) = (each for each in found if each.name == "c2c_instance_alarms")
    return {each.labels["kind"]: each.value for each in family.samples if each.value}


async def _served() -> Scene:
    scene = Scene(register(world("b"), B0, B, "10.0.1.1"))
    async with scene.running():
        peer = scene.connect(B0).as_envoy()
        scene.show_newest()
        await scene.clock.advance(0.1)
        peer.settle()
    await scene.proof.close()
    return scene


@pytest.mark.parametrize("why", ["certificate", "plan"])
async def test_who_cannot_get_what_it_should_have_is_behind(
    why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it ACKed all that it had, which is what is said of each type."""
    scene = await _served()
    assert (_status(scene).behind, _status(scene).certificate) == ("", SERVED)
    async with scene.running():
        if why == "certificate":
            scene.serials.are_bad = True
        else:
            monkeypatch.setattr(scene.planner, "plan", None)
        scene.commit(mapping(scene.state, B, "x"))
        await settled()
        status = _status(scene)
        await scene.proof.close()

    reasons = {
        "certificate": "no certificate could be issued: ",
        "plan": "it goes on with what it had: a defect; the log has it",
    }
    assert all(each.reason == "" for each in status.types)
    assert status.behind.startswith(reasons[why])
    assert status.behind in {*status.alarms, status.certificate_reason}


async def test_who_waits_for_its_turn_is_behind() -> None:
    """What was committed a moment ago is not there yet; nobody who is away waits."""
    scene = await _served()
    scene.commit(mapping(scene.state, B, "x"))
    assert _status(scene).behind == "its turn has not come yet"

    for live in scene.nodes.streams(B0):
        scene.nodes.closed(live)
    assert _status(scene).behind == ""


async def test_who_is_not_ready_says_what_for() -> None:
    """An app that does not listen is named with its port, and never where it is not the cause."""
    scene = await _served()
    assert _status(scene, word=LISTENS).not_ready_reason == ""

    scene.commit(set_status(scene.state, B0, InstanceStatus.NOT_READY))
    scene.attestation.report(B0, None, (), {8080: False, 9090: False, 22: True})
    closed = "its app does not accept connections on 127.0.0.1:8080, 9090"
    assert _status(scene, word=CLOSED).not_ready_reason == closed
    envoy = "its Envoy has not ACKed all that it needs to serve"
    port = AppSpec.of(scene.state.apps[B])
    scene.commit(update_app(scene.state, B, replace(port, health_check_type="process")))
    assert _status(scene, word=CLOSED).not_ready_reason == envoy
    scene.commit(update_app(scene.state, B, port))
    assert _status(scene, word=LISTENS).not_ready_reason == envoy
    assert _status(scene).not_ready_reason == envoy  # it has no sidecar
    hangs = "its Envoy shows no certificate on 61443 any more: see its log, or restart it"
    assert _status(scene, word=HANGS).not_ready_reason == hangs
    stops = "it is about to stop, and answers its last callers"
    assert _status(scene, word=DRAINS).not_ready_reason == stops

    spoken = set_status(scene.state, B0, InstanceStatus.NOT_READY, has_sidecar=True)
    scene.commit(spoken)
    nothing = "its sidecar has not told yet whether its app accepts connections"
    assert _status(scene).not_ready_reason == nothing
    for live in scene.nodes.streams(B0):
        scene.nodes.closed(live)
    assert _status(scene, word=LISTENS).not_ready_reason == "its Envoy is not connected"


async def test_a_sidecar_that_reports_no_more_is_an_alarm() -> None:
    """Its Envoy serves on, so that nothing else shows it until the identity has nearly ended."""
    scene = await _served()
    scene.commit(set_status(scene.state, B0, InstanceStatus.READY))
    assert list(_status(scene).alarms) == []  # it has none that ever reported
    scene.attestation.report(B0, None, ())
    assert list(_status(scene).alarms) == []

    await scene.clock.advance(3 * REPORT_SECONDS[0])
    silent = "its sidecar reports no more, and renews no identity: restart it, unless it is cut off"
    assert list(_status(scene).alarms) == [silent]
    assert _counted(scene) == {"sidecar_silent": 1}
    for live in scene.nodes.streams(B0):
        scene.nodes.closed(live)
    assert list(_status(scene).alarms) == []  # it may all be gone
    assert _counted(scene) == {}


async def test_an_envoy_that_is_away_beside_a_sidecar_that_reports_is_an_alarm() -> None:
    """One that hangs looks like an instance that was stopped, but for its sidecar's word."""
    scene = await _served()
    scene.commit(set_status(scene.state, B0, InstanceStatus.GONE))
    assert list(_status(scene).alarms) == []  # it has none that ever reported
    scene.attestation.report(B0, None, ())
    (alarm,) = _status(scene).alarms
    assert alarm.startswith("it counts as gone, because its Envoy is not connected, although its ")
    assert _counted(scene) == {"envoy_away": 1}
    for ends in (LEAVES, DRAINS):
        assert list(_status(scene, word=ends).alarms) == []
        assert _counted(scene, ends) == {}

    await scene.clock.advance(3 * REPORT_SECONDS[0])
    assert list(_status(scene).alarms) == []  # the machine may be gone


async def test_who_has_an_identity_and_never_connected_says_what_to_look_at() -> None:
    """A firewall may be in the way; who was registered to call only needs no Envoy."""
    scene = Scene(register(world("b"), B0, B, "10.0.1.1"))
    never = "its Envoy never connected: see whether it runs, and reaches the port of --xds-address"

    assert _status(scene).not_ready_reason == ""
    assert _status(scene, has_identity=True).not_ready_reason == never
    async with scene.running():
        scene.connect(B0)
        assert _status(scene, has_identity=True).not_ready_reason == ""
