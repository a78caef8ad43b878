"""For which instances ``wait`` waits, and when each of them is there."""

from __future__ import annotations

import pytest

from control_plane.api.v1 import inspection_pb2
from control_plane.cli.inspect_wait import _awaited, _judged

SYNCED = inspection_pb2.CONFIG_STATUS_SYNCED
NOT_ASKED = inspection_pb2.CONFIG_STATUS_NOT_ASKED
ISSUED = inspection_pb2.CERTIFICATE_STATE_ISSUED
SERVED = inspection_pb2.CERTIFICATE_STATE_SERVED
STAGES = ("acked", "served", "ready")


def _instance(
    status: str = "ready",
    *,
    connected: bool = True,
    certificate: inspection_pb2.CertificateState.ValueType = SERVED,
    types: str = "CDS LDS SDS",
    each_is: inspection_pb2.ConfigStatus.ValueType = SYNCED,
    reason: str = "",
    behind: str = "",
    not_ready_reason: str = "",
) -> inspection_pb2.InstanceStatus:
    """Return an instance that is as far as it can be, but for what is said."""
    made = inspection_pb2.InstanceStatus(
        app="web",
        connected=connected,
        status=status,
        certificate=certificate,
        behind=behind,
        not_ready_reason=not_ready_reason,
    )
    for each in types.split():
        made.types.add(type=each, status=each_is)
    if reason:
        made.types[-1].reason = reason
    return made


@pytest.mark.parametrize(
    ("late", "reasons"),
    [
        (_instance(), ["", "", ""]),
        (_instance(types="CDS LDS"), ["the Envoy of web/0 is not connected"] * 3),
        (_instance(types="SDS NAMES"), ["the Envoy of web/0 is not connected"] * 3),
        (_instance(each_is=NOT_ASKED), ["the Envoy of web/0 is not connected"] * 3),
        (_instance(behind="its turn has not come"), ["web/0: its turn has not come"] * 3),
        (_instance(reason="refused"), ["web/0 SDS: refused"] * 3),
        (_instance(certificate=ISSUED), ["", *["web/0 certificate: not served yet"] * 2]),
        (_instance(status="not_ready"), ["", "", "web/0 is not ready"]),
        (
            _instance(status="not_ready", not_ready_reason="its Envoy is not connected"),
            ["", "", "web/0 is not ready: its Envoy is not connected"],
        ),
    ],
    ids=[
        "there",
        "one type",
        "another",
        "not asked",
        "behind",
        "refused",
        "not served",
        "not ready",
        "why",
    ],
)
def test_each_stage_asks_for_more(late: inspection_pb2.InstanceStatus, reasons: list[str]) -> None:
    """ACKed is all of it ACKed, served is shown as well, and ready is that names lead there."""
    looks = [_judged([late], stage, 1) for stage in STAGES]

    assert [", ".join(each.reasons) for each in looks] == reasons
    assert [each.is_enough for each in looks] == [not each for each in reasons]


def test_whoever_waits_sees_why() -> None:
    """The first who is late is named with the reason while there is time to do something."""
    late = _instance(status="not_ready", not_ready_reason="its Envoy is not connected")
    of = "until they are ready"

    assert _awaited(_judged([_instance(), late, late], "ready", 1), "ready") == (
        f"{of}: 1 of 3 are (web/0 is not ready: its Envoy is not connected)"
    )
    assert _awaited(_judged([_instance()], "ready", 2), "ready") == f"{of}: 1 of 2 are"


def test_who_is_there_or_may_come_back_is_waited_for() -> None:
    """Those that are gone, or never came, are not."""
    away = [_instance(each, connected=False) for each in ("ready", "not_ready")]
    nobody = [_instance(each, connected=False) for each in ("gone", "registered")]
    here = _instance("registered")

    assert [_judged([each], "acked", 0).wanted for each in (*away, here, *nobody)] == [1] * 3 + [
        0
    ] * 2


@pytest.mark.parametrize(("instances", "is_enough"), [(1, True), (2, True), (3, False)])
def test_as_many_as_were_asked_for_have_to_be_there(instances: int, *, is_enough: bool) -> None:
    """And all those that there are, if these are more."""
    look = _judged([_instance(), _instance()], "ready", instances)

    assert (look.there, look.wanted) == (2, max(2, instances))
    assert look.is_enough is is_enough


def test_one_that_is_late_is_too_many() -> None:
    """However many there have to be: the others may get its requests."""
    look = _judged([_instance(), _instance(reason="refused")], "ready", 1)

    assert (look.there, look.wanted) == (1, 2)
    assert not look.is_enough
