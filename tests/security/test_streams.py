"""What an instance may do on its streams: be itself, see its own, and not too much of it.

Whoever is refused here got through the handshake, with a certificate of our CA.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.service.discovery.v3 import discovery_pb2
from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.ca import load_key_pair, read_certificate
from control_plane.names import InstanceGuid
from control_plane.planner.ports import ID_SECRET
from control_plane.reconciler.certificates.held import Held
from control_plane.xds.resource import TypeUrl
from control_plane.xds.resource_type import CLUSTER, LISTENER, SECRET
from tests.envoy.harness import until
from tests.security.holders import (
    Holder,
    c2c_request,
    identity_request,
    issued,
    operator_request,
)
from tests.security.world import (
    C2C_SECRET,
    bystander,
    called,
    certificates_in,
    control_plane,
    enrol,
    refused,
    refused_stream,
    stream,
    told,
)
from tests.sidecar.platform import Platform
from tests.tls_pairs import chain_in, key_in
from tests.xds_client import ADS, PATIENCE, DeltaClient, SotwClient

MANY_NAMES = [f"secret-{number}" for number in range(10_000)]
HUNDRED_MB = 100_000_000

FOREIGN: dict[TypeUrl, str] = {
    LISTENER: "listener-9090-61443",
    CLUSTER: "service-cluster-9090",
    SECRET: "secret-of-port-9090",
}
"""Names that another app's instance has, or that look as if it had."""

FETCH_SECRETS = "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets"

XDS_CALLS = ("/c2c.v1.IdentityService/Renew", "/c2c.v1.SidecarService/Report")


def missing(name: str) -> str:
    """Return a name of the same length that nobody has."""
    return name.replace("9090", "9999")


async def answer_to(cf: Platform, holder: Holder, kind: TypeUrl, name: str, sotw: bool) -> bytes:  # noqa: FBT001 - the variant
    """Return the bytes of everything that comes when a name is asked for on a new stream.

    But for the nonces, which are another stream's each time.
    """
    response_of = discovery_pb2.DiscoveryResponse if sotw else discovery_pb2.DeltaDiscoveryResponse
    async with holder.connect(cf.running.xds_address) as channel:
        client_of = SotwClient if sotw else DeltaClient
        async with client_of(channel, holder.guid) as client:
            await client.subscribe(kind, name)
            # The answer to another question tells that there is none to the first.
            await client.subscribe(TypeUrl("type.googleapis.com/c2c.v1.NameTable"), "name-table")
            answers: list[bytes] = []
            while not answers or b"NameTable" not in answers[-1]:
                raw = await asyncio.wait_for(client._inbox.get(), PATIENCE)
                assert raw is not None
                nonce = response_of.FromString(raw).nonce.encode()
                assert raw.count(nonce) == 1
                answers.append(raw.replace(nonce, b"nonce"))
            return b"".join(answers)


@pytest.mark.parametrize("sotw", [False, True], ids=["delta", "SotW"])
@pytest.mark.parametrize("kind", FOREIGN, ids=lambda kind: kind.rpartition(".")[2])
async def test_what_belongs_to_others_looks_as_if_it_did_not_exist(
    tmp_path: Path, kind: TypeUrl, *, sotw: bool
) -> None:
    """Byte for byte, a foreign name and a made-up one have the same answer; the audit has both."""
    name = FOREIGN[kind]
    async with control_plane(tmp_path) as cf, bystander(cf, port=9090) as there:
        await cf.create_app("curious")
        curious = await enrol(cf, "curious", "127.0.0.1")
        core = cf.running.core
        snapshot = core.nodes.snapshot(there.holder.guid)
        assert snapshot is not None
        assert kind == SECRET or snapshot.of_type(kind).find(name) is not None

        with capture_logs() as lines:
            foreign = await answer_to(cf, curious, kind, name, sotw)
            made_up = await answer_to(cf, curious, kind, missing(name), sotw)

        assert foreign.replace(name.encode(), missing(name).encode()) == made_up
        assert [
            (each["node"], each["names"]) for each in told(lines, log_events.AUDIT_NAME_DENIED)
        ] == [
            (curious.guid, [name]),
            (curious.guid, [missing(name)]),
        ]
        assert core.observed.name_audit.denied == 2


async def test_nobody_gets_the_certificate_of_another_instance(tmp_path: Path) -> None:
    """Asked for all secrets there are, the server sends those of the asking instance alone."""
    async with control_plane(tmp_path) as cf, bystander(cf):
        await cf.create_app("curious")
        curious = await enrol(cf, "curious", "127.0.0.1")
        async with stream(cf, curious) as client:
            await client.subscribe(SECRET, "*")
            response = await client.receive()

        subjects = {read_certificate(each).san.dns[0] for each in certificates_in(response)}
        assert subjects == {curious.guid}


async def test_an_identity_of_an_instance_that_never_was_is_told_so(tmp_path: Path) -> None:
    """Whoever signs identities may have registered nobody, or have taken a name for a GUID."""
    async with control_plane(tmp_path) as cf, bystander(cf) as there:
        right = identity_request(cf, there.holder)
        unknown = replace(right, instance_guid="never-was")
        another = replace(right, app_guid="app-b")

        assert await refused_stream(cf, issued(cf, unknown, guid="never-was")) == (
            grpc.StatusCode.PERMISSION_DENIED,
            (
                "instance never-was is not known: register it (c2c register-instance), or let "
                "another enrol with a new token (c2c join-token)"
            ),
        )
        assert await refused_stream(cf, issued(cf, another, guid=there.holder.guid)) == (
            grpc.StatusCode.PERMISSION_DENIED,
            (
                f"instance {there.holder.guid} is not of the app that the certificate says, app-b: "
                "c2c instances --output json shows its app_guid"
            ),
        )


async def test_a_node_id_is_a_claim_and_the_certificate_is_proof(tmp_path: Path) -> None:
    """An instance that says to be another gets nothing, and is in the audit log."""
    async with control_plane(tmp_path) as cf, bystander(cf) as there:
        await cf.create_app("impostor")
        impostor = await enrol(cf, "impostor", "127.0.0.1")
        with capture_logs() as lines:
            status = await refused_stream(cf, replace(impostor, guid=there.holder.guid))

        details = (
            f"node.id must be the instance of the certificate, {impostor.guid}, "
            f"not {there.holder.guid!r}"
        )
        assert status == (grpc.StatusCode.PERMISSION_DENIED, details)
        (line,) = told(lines, log_events.AUDIT_NODE_REFUSED)
        assert line["node"] == there.holder.guid
        assert any(impostor.guid in each for each in line["identities"])


async def test_who_polls_is_who_its_certificate_says(tmp_path: Path) -> None:
    """V2: a polled call gives an instance its own secrets, made for it by then, and no other's."""
    async with control_plane(tmp_path) as cf, bystander(cf) as there:
        await cf.create_app("poller")
        poller = await enrol(cf, "poller", "127.0.0.1")
        own, foreign = (
            discovery_pb2.DiscoveryRequest(node={"id": each.guid}).SerializeToString()
            for each in (poller, there.holder)
        )
        async with poller.connect(cf.running.xds_address) as channel:
            raw = await called(channel, FETCH_SECRETS, own)
            code, _ = await refused(called(channel, FETCH_SECRETS, foreign))
        secrets = [
            secret_pb2.Secret.FromString(each.value)
            for each in discovery_pb2.DiscoveryResponse.FromString(raw).resources
        ]

    chains = [each.tls_certificate.certificate_chain.inline_bytes for each in secrets]
    assert {read_certificate(each).san.dns[0] for each in chains} == {poller.guid}
    assert code is grpc.StatusCode.PERMISSION_DENIED


async def test_a_stream_cannot_change_its_node(tmp_path: Path) -> None:
    """A second node.id ends the stream with INVALID_ARGUMENT, and nothing more is sent (N2)."""
    async with control_plane(tmp_path) as cf, bystander(cf) as there:
        await cf.create_app("turncoat")
        turncoat = await enrol(cf, "turncoat", "127.0.0.1")
        async with stream(cf, turncoat) as client:
            await client.subscribe(SECRET, C2C_SECRET)
            await client.ack(await client.receive())
            await client.send(
                type_url=SECRET,
                resource_names_subscribe=["id-cert-and-key"],
                node={"id": there.holder.guid},
            )

            assert await client.status() == (
                grpc.StatusCode.INVALID_ARGUMENT,
                f"node.id changed on the stream: {turncoat.guid!r} became {there.holder.guid!r}",
            )


def shown_on_the_ports(cf: Platform, victim: Holder) -> Holder:
    """Return who has what an instance is sent for the ports from 61001, with its key."""
    held = cf.running.core.custody.get(InstanceGuid(victim.guid), ID_SECRET)
    assert isinstance(held, Held)
    key = load_key_pair(key_in(held.resource))
    return Holder(victim.guid, key, chain_in(held.resource), victim.roots)


Wrong = Callable[[Platform, Holder], Holder]

WRONG_KIND: dict[str, tuple[Wrong, grpc.StatusCode, str]] = {
    "an operator": (
        lambda cf, victim: issued(cf, operator_request(cf), guid=victim.guid),
        grpc.StatusCode.PERMISSION_DENIED,
        "only an app instance may do this, with its own certificate",
    ),
    "the certificate that an instance shows to other containers": (
        lambda cf, victim: issued(cf, c2c_request(cf, victim), guid=victim.guid),
        grpc.StatusCode.UNAUTHENTICATED,
        "client certificate refused: it needs exactly one SPIFFE id and has 0 URIs",
    ),
    "the certificate that an instance shows on the ports from 61001": (
        shown_on_the_ports,
        grpc.StatusCode.UNAUTHENTICATED,
        "client certificate refused: it needs exactly one SPIFFE id and has 0 URIs",
    ),
}


@pytest.mark.parametrize("kind", WRONG_KIND)
async def test_only_the_identity_of_an_instance_opens_the_xds_port(
    tmp_path: Path, kind: str
) -> None:
    """Other certificates of our CA open no stream, renew nothing and report nothing."""
    make, code, details = WRONG_KIND[kind]
    async with control_plane(tmp_path) as cf, bystander(cf) as there:
        wrong = make(cf, there.holder)
        with capture_logs() as lines:
            statuses = [await refused_stream(cf, wrong)]
            async with wrong.connect(cf.running.xds_address) as channel:
                statuses += [await refused(called(channel, method)) for method in XDS_CALLS]

        assert statuses == [(code, details)] * 3
        assert len(told(lines, log_events.AUDIT_NODE_REFUSED)) == 3


async def test_ten_thousand_names_are_too_many(tmp_path: Path) -> None:
    """Names beyond the limit end the stream with RESOURCE_EXHAUSTED, in one request or in many."""
    async with control_plane(tmp_path) as cf, bystander(cf):
        await cf.create_app("greedy")
        greedy = await enrol(cf, "greedy", "127.0.0.1")
        too_many = (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "more than 4096 resource names on a stream: 10000",
        )
        async with stream(cf, greedy) as client:
            await client.subscribe(SECRET, *MANY_NAMES)

            assert await client.status() == too_many

        async with stream(cf, greedy) as client:
            await client.subscribe(SECRET, *MANY_NAMES[:4000])
            await client.subscribe(LISTENER, *MANY_NAMES[4000:])

            assert await client.status() == too_many


GIVEN_UP: dict[str, dict[str, Any]] = {
    "names": {"resource_names_unsubscribe": MANY_NAMES},
    "locators": {"resource_locators_unsubscribe": [{"name": name} for name in MANY_NAMES]},
}


@pytest.mark.parametrize("what", GIVEN_UP)
async def test_ten_thousand_names_are_too_many_to_give_up(tmp_path: Path, what: str) -> None:
    """Nobody has so many, and to look at four megabytes of them held up everybody for seconds."""
    async with control_plane(tmp_path) as cf, bystander(cf):
        await cf.create_app("greedy")
        greedy = await enrol(cf, "greedy", "127.0.0.1")
        async with stream(cf, greedy) as client:
            await client.subscribe(SECRET, C2C_SECRET)
            await client.receive()
            await client.send(type_url=SECRET, **GIVEN_UP[what])

            assert await client.status() == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "more than 4096 resource names on a stream: 10000",
            )


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip], ids=["plain", "gzip"])
async def test_a_message_of_100_mb_is_not_taken(
    tmp_path: Path, compression: grpc.Compression | None
) -> None:
    """It is refused by its size, also where it is small only as long as it is compressed."""
    async with control_plane(tmp_path) as cf, bystander(cf) as there:
        await cf.create_app("greedy")
        greedy = await enrol(cf, "greedy", "127.0.0.1")
        async with greedy.connect(cf.running.xds_address) as channel:
            method: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
                ADS + DeltaClient.method
            )
            call = method(compression=compression)
            writing = asyncio.create_task(call.write(bytes(HUNDRED_MB)))
            await there.rotates()
            async with asyncio.timeout(PATIENCE):
                await asyncio.wait([writing])

                assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                assert "larger than max" in (await call.details() or "")


async def test_an_instance_has_so_many_streams_and_no_more(tmp_path: Path) -> None:
    """One stream too many is refused with RESOURCE_EXHAUSTED, until another of them ends."""
    async with control_plane(tmp_path, max_streams_per_node=3) as cf, bystander(cf):
        await cf.create_app("greedy")
        greedy = await enrol(cf, "greedy", "127.0.0.1")
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(stream(cf, greedy)) for _ in range(3)]
            for client in clients:
                await client.subscribe(SECRET, C2C_SECRET)
                await client.receive()

            assert await refused_stream(cf, greedy) == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"more than 3 streams of one node: {greedy.guid!r}",
            )

            await clients[0].done_writing()
            await clients[0].status()
            async with stream(cf, greedy) as client:
                await client.subscribe(SECRET, C2C_SECRET)

                assert (await client.receive()).resources


async def test_new_streams_come_at_a_bounded_rate(tmp_path: Path) -> None:
    """Those that come too fast are told UNAVAILABLE and get in a moment later."""
    async with control_plane(tmp_path, max_new_streams_per_second=4) as cf, bystander(cf):
        await cf.create_app("crowd")
        ticket = await cf.ticket("crowd", uses=12)
        crowd = [
            await enrol(cf, "crowd", f"127.0.1.{number + 1}", by=ticket) for number in range(12)
        ]

        async def is_let_in(holder: Holder) -> bool:
            async with stream(cf, holder) as client:
                await client.subscribe(SECRET, C2C_SECRET)
                await client.done_writing()
                code, details = await client.status()
                refusal = "too many new streams at once; come again in a moment"
                assert (code, details) in (
                    (grpc.StatusCode.OK, ""),
                    (grpc.StatusCode.UNAVAILABLE, refusal),
                )
                return code is grpc.StatusCode.OK

        at_once = await asyncio.gather(*map(is_let_in, crowd))

        assert 3 <= sum(at_once) < len(crowd)

        for holder in crowd:
            await until(partial(is_let_in, holder), what="each gets in")
