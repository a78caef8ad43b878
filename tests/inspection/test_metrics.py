"""Metrics: well named, moved by what they say that they measure, and bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from control_plane.names import InstanceGuid
from control_plane.reconciler.certificates.held import Held
from control_plane.server.metrics.instruments import Metrics
from control_plane.settings import SocketAddress
from control_plane.xds.resource_type import SECRET
from tests.envoy.harness import unique_address, until
from tests.inspection.promlint import families, problems
from tests.inspection.world import APP, C2C_SECRET, scene
from tests.security.leaks import Secrets
from tests.security.world import enrol, refused_stream, stream
from tests.sidecar.platform import Platform
from tests.tls_pairs import key_in

Values = Mapping[str, float]


async def fetch(address: SocketAddress, path: str, accept: str = "text/plain") -> tuple[int, str]:
    """Return the status and the body of an answer over HTTP."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return int(head.split(" ")[1]), body


async def total(address: SocketAddress, metric: str) -> float:
    """Return a metric, whatever its labels."""
    status, text = await fetch(address, "/metrics")
    assert status == 200
    return sum(each.value for each in families(text)[metric].samples)


async def exposed(cf: Platform) -> str:
    """Return the text of all metrics."""
    status, text = await fetch(cf.running.http_address, "/metrics")
    assert status == 200
    return text


async def values(cf: Platform) -> Values:
    """Return each sample by its name, with its labels as they are written."""

    def key(name: str, labels: Mapping[str, str]) -> str:
        inside = ",".join(f"{label}={value}" for label, value in labels.items())
        return f"{name}{{{inside}}}" if inside else name

    found = families(await exposed(cf)).values()
    return {key(s.name, s.labels): s.value for family in found for s in family.samples}


async def once(cf: Platform, holds: Callable[[Values], bool], *, what: str) -> Values:
    """Wait until the metrics are like that, and return them."""

    async def probe() -> Values | None:
        found = await values(cf)
        return found if holds(found) else None

    found = await until(probe, what=what)
    assert found is not None
    return found


async def test_names_and_units_are_those_of_prometheus(tmp_path: Path) -> None:
    """What promtool checks: help, units, suffixes; at the start and after something happened."""
    async with scene(tmp_path) as here:
        assert problems(await exposed(here.cf)) == []
        async with here.envoy():
            await here.until_served()
            assert problems(await exposed(here.cf)) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("# TYPE a_total counter\na_total 1\n", "a_total: no help text"),
        ("# HELP a x\n# TYPE a counter\na 1\n", 'a: counter metrics should have "_total" suffix'),
        (
            "# HELP a_total x\n# TYPE a_total gauge\na_total 1\n",
            'a_total: non-counter metrics should not have "_total" suffix',
        ),
        (
            "# HELP a_milliseconds x\n# TYPE a_milliseconds gauge\na_milliseconds 1\n",
            'a_milliseconds: use base unit "seconds" instead of "milliseconds"',
        ),
        (
            "# HELP a_ms x\n# TYPE a_ms gauge\na_ms 1\n",
            "a_ms: metric names should not contain abbreviated units",
        ),
    ],
    ids=["help", "counter", "gauge", "unit", "abbreviation"],
)
def test_the_check_finds_what_it_is_for(text: str, problem: str) -> None:
    """A check that finds nothing anywhere would prove nothing here."""
    assert problems(text) == [problem]


async def test_nothing_is_missing_before_it_happens(tmp_path: Path) -> None:
    """A rate needs the zero before the first event, so every series is there from the start."""
    async with scene(tmp_path) as here:
        before = await values(here.cf)
        async with here.envoy():
            await here.until_served()
            after = await values(here.cf)
        new = {name.partition("{")[0] for name in after.keys() - before.keys()}

    assert new <= {"c2c_certificate_earliest_expiry_timestamp_seconds"}
    assert before["c2c_xds_nacks_total{type=SDS}"] == 0


async def test_a_rotation_is_measured_from_end_to_end(tmp_path: Path) -> None:
    """Issue, push, ACK and handshake: each is counted once, and took less than a second."""
    async with scene(tmp_path) as here, here.envoy():
        await here.until_served()
        settled = "c2c_change_to_served_seconds_count"
        before = await values(here.cf)
        await here.map_route("second")
        after = await once(
            here.cf, lambda now: now[settled] == before[settled] + 1, what="the change is served"
        )
        moved = {name: after[name] - before[name] for name in after}

        for name in (
            "c2c_certificates_issued_total{reason=changed}",
            "c2c_certificate_issue_duration_seconds_count",
            "c2c_xds_pushes_total{type=SDS}",
            "c2c_xds_acks_total{type=SDS}",
            "c2c_xds_push_to_ack_seconds_count{type=SDS}",
            "c2c_change_to_ack_seconds_count",
            "c2c_change_to_served_seconds_count",
            "c2c_store_commit_duration_seconds_count",
            "c2c_routes",
        ):
            assert moved[name] == 1, name
        assert moved["c2c_xds_pushed_bytes_total{type=SDS}"] > 1000
        assert 0 < moved["c2c_xds_push_to_ack_seconds_sum{type=SDS}"] < 1
        acked, served = (moved[f"c2c_change_to_{stage}_seconds_sum"] for stage in ("ack", "served"))
        assert 0 < acked <= served < 1
        for name in ("c2c_xds_pushes_total{type=LDS}", "c2c_xds_nacks_total{type=SDS}"):
            assert moved[name] == 0, name


async def test_the_fleet_is_counted(tmp_path: Path) -> None:
    """Instances, streams and certificates by where they are, as they come and go."""
    async with scene(tmp_path) as here:
        before = await values(here.cf)
        async with here.envoy():
            await here.until_served()
            there = await values(here.cf)
        gone = await once(
            here.cf, lambda now: now["c2c_xds_streams{variant=delta}"] == 0, what="it is gone"
        )

    assert before["c2c_instances{status=registered}"] == 1
    assert (before["c2c_apps"], before["c2c_routes"], before["c2c_network_policies"]) == (1, 1, 0)
    assert there["c2c_instances{status=ready}"] == 1
    assert there["c2c_xds_streams{variant=delta}"] == 1
    assert there["c2c_certificates{state=served}"] == 1
    # That of the other ports; nobody looks whether it is served.
    assert there["c2c_certificates{state=acked}"] == 1
    end = there["c2c_certificate_earliest_expiry_timestamp_seconds"]
    assert 23 * 3600 < end - there["process_start_time_seconds"] < 25 * 3600
    assert there["c2c_xds_streams_opened_total{variant=delta}"] == 1
    ended = [gone[f"c2c_xds_streams_ended_total{{code={code}}}"] for code in ("OK", "CANCELLED")]
    assert sum(ended) == 1


async def test_what_is_refused_is_counted(tmp_path: Path) -> None:
    """NACKs by type, names in vain, and streams that are not let in, by why."""
    async with scene(tmp_path) as here:
        other = await enrol(here.cf, APP, unique_address())
        async with stream(here.cf, here.holder) as client:
            await client.subscribe(SECRET, C2C_SECRET, "somebody-elses", "another")
            await client.nack(await client.receive(), "no")
            counted = await once(
                here.cf, lambda now: now["c2c_xds_nacks_total{type=SDS}"] == 1, what="the NACK"
            )
            await client.subscribe("type.googleapis.com/made.up", "x")
            await once(here.cf, lambda now: now["c2c_xds_denied_names_total"] == 3, what="the name")
        status, _ = await refused_stream(here.cf, replace(here.holder, guid=other.guid))
        after = await values(here.cf)

    assert status is grpc.StatusCode.PERMISSION_DENIED
    assert counted["c2c_xds_denied_names_total"] == 2
    assert after["c2c_xds_streams_refused_total{code=PERMISSION_DENIED}"] == 1
    assert not [name for name in after if "made.up" in name]


async def test_no_label_grows_with_what_operators_create(tmp_path: Path) -> None:
    """A hundred apps and routes later there are as many series as before."""
    async with scene(tmp_path) as here, here.envoy():
        await here.until_served()
        before = (await values(here.cf)).keys()
        for number in range(50):
            await here.cf.create_app(f"app-{number}")
            await here.map_route(f"route-{number}")
        after = await once(here.cf, lambda now: now["c2c_routes"] == 51, what="all are there")

        assert after.keys() == before
        assert not [name for name in after if here.holder.guid in name or "app-" in name]


async def test_no_secret_is_in_any_of_it(tmp_path: Path) -> None:
    """D4: neither metrics nor status, certificates, explanations or events have a key in them."""
    secrets, answers = Secrets(), []
    async with scene(tmp_path) as here, here.operator.events() as events, here.envoy():
        await here.until_served()
        await here.map_route("second")
        await here.until_served()
        await events.until("settled")
        for name in (C2C_SECRET, "id-cert-and-key"):
            held = here.cf.running.core.custody.get(InstanceGuid(here.holder.guid), name)
            assert isinstance(held, Held)
            secrets.add_key(key_in(held.resource), name)
        secrets.add_key(here.holder.key.private_pem(), "identity")
        answers = [
            await exposed(here.cf),
            *map(str, await here.operator.statuses(resources=True)),
            *map(str, await here.operator.certificates()),
            str(await here.operator.why("", APP)),
            *map(str, events.heard),
        ]

    assert any(C2C_SECRET in each for each in answers)
    assert not secrets.found_in_any(answers)


async def test_health_and_readiness(tmp_path: Path) -> None:
    """Both are yes while it runs; readiness ends before the streams do, and health goes on."""
    async with scene(tmp_path) as here:
        address = here.cf.running.http_address
        assert await fetch(address, "/healthz") == (200, "ok\n")
        assert await fetch(address, "/readyz") == (200, "ok\n")
        ports = here.cf.running.ports
        stopping = asyncio.create_task(ports.stop(0.2))
        await asyncio.sleep(0)
        assert await fetch(address, "/readyz") == (503, "shutting down\n")
        assert await fetch(address, "/healthz") == (200, "ok\n")
        await stopping
        await here.cf.stop()
        with pytest.raises(ConnectionRefusedError):
            await fetch(address, "/healthz")


async def test_open_metrics_are_spoken_too(tmp_path: Path) -> None:
    """Prometheus asks for them first; their text ends with a mark."""
    async with scene(tmp_path) as here:
        accept = "application/openmetrics-text; version=1.0.0"
        _, text = await fetch(here.cf.running.http_address, "/metrics", accept)

    assert text.endswith("# EOF\n")


def test_two_control_planes_count_for_themselves() -> None:
    """Nothing is registered where another one in the process would find it."""
    first, second = Metrics(), Metrics()
    first.streams.pushes.labels("SDS").inc()

    assert 'c2c_xds_pushes_total{type="SDS"} 1.0' in first.exposition("")[0].decode()
    assert 'c2c_xds_pushes_total{type="SDS"} 0.0' in second.exposition("")[0].decode()
