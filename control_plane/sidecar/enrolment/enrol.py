"""How the instance gets its first identity: by a join token.

The rule of this module: the private key is made here and never leaves, and the token is sent only
to a server that proved to be the control plane. While the control plane is down, the sidecar waits.
A token that was sent may be spent, and then only a repetition of the same request is answered. So
all attempts use one key, and even a sidecar that is told to stop waits a moment for an answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import Awaitable

import grpc

from control_plane.api.v1 import enrollment_pb2, enrollment_pb2_grpc
from control_plane.ca import KeyFactory, make_csr, read_certificates
from control_plane.errors import ConfigurationError
from control_plane.names import Address, parse_address, parse_port, shown
from control_plane.settings import SocketAddress
from control_plane.sidecar.channel import anonymous_channel, is_said_by_the_server, reason
from control_plane.sidecar.directory import Credentials, Enrollment, Membership
from control_plane.sidecar.enrolment.pin import WRONG_PORT, Proven, pinned, roots_from_file, verify
from control_plane.sidecar.identity import hold
from control_plane.sidecar.options import SidecarOptions
from control_plane.sidecar.retry import Retry

ENROL_SECONDS = 30.0
"""How long the call may take."""

LAST_SECONDS = 3.0
"""How long a sidecar that is told to stop waits for an answer; the answer takes milliseconds."""


def check_enrolment(options: SidecarOptions) -> None:
    """Return if the options suffice to enrol; nothing is sent.

    Raises:
        ConfigurationError: there is no token, or nothing to verify the server by.
    """
    problems = []
    if not options.token:
        problems.append(
            f"no join token, and no identity in {shown(str(options.directory))} that could be "
            "used: create a token with c2c join-token"
        )
    if not options.fingerprint and options.ca_file is None:
        problems.append(
            "--fingerprint or --ca-file is needed, by which the sidecar knows the server"
        )
    if problems:
        raise ConfigurationError(problems)
    if options.ca_file is not None:
        roots_from_file(options.ca_file)


async def enrol(options: SidecarOptions, *, new_key: KeyFactory, retry: Retry) -> Membership:
    """Return the membership that the control plane grants for a join token.

    Raises:
        ConfigurationError: there is no token, or the server is not the control plane to give it to.
        InvalidRequest: the control plane refused for good.
    """
    check_enrolment(options)
    key = new_key()
    csr = make_csr(key)

    async def attempt() -> enrollment_pb2.EnrollResponse:
        try:
            proven = await _proven(options)
        except socket.gaierror as error:
            name = options.server.host
            raise ConnectionError(f"host name not found: {name}: {error.strerror}") from error
        address = options.address or parse_address(proven.source)
        request = enrollment_pb2.EnrollRequest(
            token=options.token, csr=csr, address=address, app_address=options.app_address
        )
        # gRPC might prefer another address of the server, to which another route leads from here.
        async with anonymous_channel(proven.server, proven.roots) as channel:
            stub = enrollment_pb2_grpc.EnrollmentServiceStub(channel)
            try:
                return await _answer(stub.Enroll(request, timeout=ENROL_SECONDS))
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE or is_said_by_the_server(error):
                    raise
                # The server proved itself a moment ago and hangs up now, so perhaps the port is
                # wrong.
                raise ConnectionError(f"{reason(error)} ({WRONG_PORT})") from error

    response = await retry.until_done("enrol", attempt)
    identity = hold(response.certificate, key)
    trust_bundle = response.trust_bundle.encode()
    read_certificates(trust_bundle)
    enrollment = Enrollment(
        trusted_by=trust_anchor(options),
        instance_guid=identity.instance_guid,
        xds_port=parse_port(response.xds_port, field="xds_port"),
        index=response.index,
        app_address=options.app_address,
        app_ports=tuple(response.app_ports),
        c2c_port=response.c2c_port,
    )
    return Membership(enrollment, Credentials(identity, trust_bundle))


def trust_anchor(options: SidecarOptions) -> str:
    """Return by what the options verify the control plane, as a text to compare; "" if by nothing.

    Raises:
        ConfigurationError: the CA file cannot be used.
    """
    if options.ca_file is None:
        return options.fingerprint
    return f"file sha256:{hashlib.sha256(roots_from_file(options.ca_file)).hexdigest()}"


def name_ca_of(options: SidecarOptions, trust_bundle: bytes) -> bool:
    """Tell whether the options verify the control plane by one of these CA certificates.

    Raises:
        ConfigurationError: the CA file cannot be used.
    """
    named = {options.fingerprint}
    if options.ca_file is not None:
        named = _fingerprints(roots_from_file(options.ca_file))
    return not named.isdisjoint(_fingerprints(trust_bundle))


async def address_towards(server: SocketAddress, held: Address | None = None) -> Address:
    """Return the source address of this machine's route to the server; nothing is sent.

    Args:
        server: the server; it may have several addresses, with different routes to them.
        held: the address to keep if it is the source address of one of these routes.

    Raises:
        OSError: there is no route to it, or its name cannot be resolved.
        InvalidArgument: the source address is one that no instance can have.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(server.host, server.port, type=socket.SOCK_DGRAM)
    sources, problems = [], []
    for family, kind, protocol, _, place in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.connect(place)
                sources.append(probe.getsockname()[0])
        except OSError as error:
            problems.append(error)
    if not sources:
        raise problems[0]
    return held if held is not None and held in sources else parse_address(sources[0])


def is_of_this_machine(address: Address) -> bool:
    """Tell whether an address is one of this machine."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


async def _answer(call: Awaitable[enrollment_pb2.EnrollResponse]) -> enrollment_pb2.EnrollResponse:
    """Return the answer to a token; if cancelled once, wait a moment for it all the same."""
    answering = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(answering)
    except asyncio.CancelledError:
        await asyncio.wait([answering], timeout=LAST_SECONDS)
        if not answering.done() or answering.exception() is not None:
            raise
        return answering.result()
    finally:
        answering.cancel()


def _fingerprints(pem: bytes) -> set[str]:
    return {each.fingerprint for each in read_certificates(pem)}


async def _proven(options: SidecarOptions) -> Proven:
    if options.ca_file is None:
        return await pinned(options.server, options.fingerprint)
    return await verify(options.server, roots_from_file(options.ca_file))
