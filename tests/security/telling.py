"""A story with every kind of secret in it, and all that it was answered.

The rule of this module: it does what operators, sidecars and Envoys do, well and badly, including
what leaks elsewhere: a NACK that quotes the key it refuses, a key in the place of a request.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.service.status.v3 import csds_pb2, csds_pb2_grpc

from control_plane.api.v1 import (
    app_pb2,
    app_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
    instance_pb2,
    instance_pb2_grpc,
    operator_pb2,
    operator_pb2_grpc,
    sidecar_pb2,
    sidecar_pb2_grpc,
)
from control_plane.ca import make_csr, new_key_pair
from control_plane.logs import REDACTED
from control_plane.xds.resource_type import LISTENER, SECRET
from tests.inspection.test_metrics import fetch
from tests.inspection.world import Events, Operator
from tests.security.holders import Holder, nobody
from tests.security.leaks import Secrets
from tests.security.world import (
    C2C_SECRET,
    enrol,
    enroll_address,
    http_address,
    map_route,
    refused,
    refused_stream,
    renew,
    stream,
    xds_address,
)
from tests.sidecar.platform import Platform
from tests.sidecar.process import Ticket
from tests.xds_client import DeltaClient, Response


@dataclass(slots=True)
class Told:
    """What there was to keep secret, and what anybody was told.

    Attributes:
        answers: errors, CSDS and other answers of the API, as bytes or text.
    """

    secrets: Secrets = field(default_factory=Secrets)
    answers: list[bytes | str] = field(default_factory=list)


async def tell(cf: Platform) -> Told:
    """Live through a control plane's day."""
    told = Told()
    async with cf.operator() as channel, Operator(channel).events() as events:
        await cf.create_app("app-b")
        spent, unspent = await cf.ticket("app-b"), await cf.ticket("app-b")
        for each in (spent, unspent):
            told.secrets.add_token(each.token)
        holder = await enrol(cf, "app-b", "127.0.2.1", by=spent)
        told.secrets.add_key(holder.key.private_pem(), "an instance")
        await _enrol_badly(cf, told, spent, unspent)
        await _be_an_envoy(cf, told, holder)
        renewed = await renew(cf, holder)
        told.secrets.add_key(renewed.key.private_pem(), "an instance that renewed")
        await _report(cf, told, renewed)
        await _operate(cf, told)
        await _inspect(cf, told, events)
    return told


async def misplace(cf: Platform, told: Told) -> None:
    """Give a token wherever it does not belong; the answers may repeat it, to who knows it."""
    ticket = await cf.ticket("app-b", uses=2)
    told.secrets.add_token(ticket.token)
    holder = await enrol(cf, "app-b", "127.0.2.3", by=ticket)
    await refused(enrol(cf, "app-b", ticket.token, by=ticket))
    await refused_stream(cf, replace(holder, guid=ticket.token))
    async with stream(cf, holder) as client:
        await client.subscribe(SECRET, ticket.token)
        await client.receive()
    async with holder.connect(xds_address(cf)) as channel:
        stub = sidecar_pb2_grpc.SidecarServiceStub(channel)
        await refused(stub.Report(sidecar_pb2.ReportRequest(served_serial=ticket.token)))
    async with cf.operator() as channel:
        apps = app_pb2_grpc.AppServiceStub(channel)
        await refused(apps.GetApp(app_pb2.GetAppRequest(app=ticket.token)))
        await apps.DeleteApp(app_pb2.DeleteAppRequest(app=ticket.token))


async def _enrol_badly(cf: Platform, told: Told, spent: Ticket, unspent: Ticket) -> None:
    good = make_csr(new_key_pair())
    key = new_key_pair().private_pem()
    told.secrets.add_key(key, "somebody who sent it by mistake")
    async with nobody(cf).connect(enroll_address(cf)) as channel:
        stub = enrollment_pb2_grpc.EnrollmentServiceStub(channel)
        for request in (
            enrollment_pb2.EnrollRequest(token=spent.token, csr=good),
            enrollment_pb2.EnrollRequest(token=unspent.token, csr=key),
            enrollment_pb2.EnrollRequest(token=unspent.token + "x", csr=good),
        ):
            told.answers.append(str(await refused(stub.Enroll(request))))


async def _be_an_envoy(cf: Platform, told: Told, holder: Holder) -> None:
    async with stream(cf, holder) as client:
        await client.subscribe(SECRET, C2C_SECRET, "id-cert-and-key")
        response = await client.receive()
        quoted = _note_keys(told, response)
        await client.nack(response, f"cannot load {quoted}")
        await client.subscribe(LISTENER)
        await client.nack(await client.receive(), f"\n{quoted}\n")
        await map_route(cf, "app-b", "app-b")
        _note_keys(told, refusable := await _next_secret(client))
        await client.ack(refusable)
        await _csds(cf, told)
        await client.send_raw(quoted.encode())
        told.answers.append(str(await client.status()))


def _note_keys(told: Told, response: Response) -> str:
    """Look for the keys of a response from now on; return them as PEM and as protobuf has them."""
    secrets = [secret_pb2.Secret.FromString(each.resource.value) for each in response.resources]
    assert secrets
    keys = [secret.tls_certificate.private_key.inline_bytes for secret in secrets]
    for secret, key in zip(secrets, keys, strict=True):
        told.secrets.add_key(key, secret.name)
    return "\n".join([*(key.decode() for key in keys), *map(str, secrets)])


async def _next_secret(client: DeltaClient) -> Response:
    while (response := await client.receive()).type_url != SECRET:
        await client.ack(response)
    return response


async def _report(cf: Platform, told: Told, holder: Holder) -> None:
    async with holder.connect(xds_address(cf)) as channel:
        stub = sidecar_pb2_grpc.SidecarServiceStub(channel)
        answer = await stub.Report(sidecar_pb2.ReportRequest(listening=True))
        told.answers.append(answer.SerializeToString())


async def _csds(cf: Platform, told: Told) -> None:
    async with cf.operator() as channel:
        stub = csds_pb2_grpc.ClientStatusDiscoveryServiceStub(channel)
        answer = await stub.FetchClientStatus(csds_pb2.ClientStatusRequest())
    assert b"BEGIN CERTIFICATE" in answer.SerializeToString()
    told.answers += [answer.SerializeToString(), str(answer)]


async def _inspect(cf: Platform, told: Told, events: Events) -> None:
    """Look at everything; a NACK that quoted a key is told of in each way that there is."""
    refused_with_a_key = await events.until("nacked")
    assert REDACTED in str(refused_with_a_key)
    status, metrics = await fetch(http_address(cf), "/metrics")
    assert status == 200
    async with cf.operator() as channel:
        operator = Operator(channel)
        told.answers += [
            *map(str, events.heard),
            *map(str, await operator.statuses(resources=True)),
            *map(str, await operator.certificates()),
            str(await operator.why("", "app-b")),
            metrics,
        ]


async def _operate(cf: Platform, told: Told) -> None:
    key = new_key_pair()
    told.secrets.add_key(key.private_pem(), "an operator")
    csr = make_csr(key)
    async with cf.operator() as channel:
        operators = operator_pb2_grpc.OperatorServiceStub(channel)
        request = operator_pb2.IssueOperatorCertificateRequest(name="alice", csr=csr)
        told.answers += [
            (await operators.IssueOperatorCertificate(request)).SerializeToString(),
            str(await app_pb2_grpc.AppServiceStub(channel).ListApps(app_pb2.ListAppsRequest())),
            str(
                await instance_pb2_grpc.InstanceServiceStub(channel).ListInstances(
                    instance_pb2.ListInstancesRequest()
                )
            ),
        ]
        mistaken = operator_pb2.IssueOperatorCertificateRequest(name="bob", csr=key.private_pem())
        told.answers.append(str(await refused(operators.IssueOperatorCertificate(mistaken))))
