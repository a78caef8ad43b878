"""Requests that get past the first check of a method: what is made up at random does not."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any, TypeVar

from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import Message
from grpc_reflection.v1alpha import reflection_pb2
from hypothesis import strategies as st

from control_plane.api.v1 import enrollment_pb2, identity_pb2, sidecar_pb2
from control_plane.ca import make_csr, new_key_pair
from control_plane.xds.resource_type import CLUSTER, LISTENER, SECRET
from tests.fuzz.messages import TEXTS, messages

T = TypeVar("T")

Requests = st.SearchStrategy[bytes]

TYPES = st.sampled_from([SECRET, CLUSTER, LISTENER, "", "type.googleapis.com/x", "\x00"])
NAMES = st.lists(
    st.one_of(st.sampled_from(["a", "*", "", "c2c-cert-and-key"]), st.text(max_size=20)), max_size=4
)

CSR = make_csr(new_key_pair())


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Draw some bytes with a few of them changed, cut out or put in."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["change", "cut", "insert"])):
            case "change":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "cut":
                del data[at : at + draw(st.integers(0, 40))]
            case _:
                data[at:at] = draw(st.binary(max_size=8))
    return bytes(data)


def like(pem: bytes) -> Requests:
    """Return what is nearly this, in PEM, in DER, or with damage inside of good PEM; or nothing."""
    first, *lines, last = pem.splitlines()
    der = damaged(b64decode(b"".join(lines)))
    wrapped = der.map(lambda der: b"\n".join([first, b64encode(der), last]))
    return st.one_of(damaged(pem), der, wrapped, st.binary(max_size=600))


@st.composite
def mostly(draw: st.DrawFn, good: st.SearchStrategy[T], other: st.SearchStrategy[T]) -> T:
    """Draw what is right three times of four, so that the rest of a request is looked at too."""
    return draw(other if draw(st.integers(0, 3)) == 3 else good)


CSRS = mostly(st.just(CSR), like(CSR))

ADDRESSES = mostly(
    st.just("") | st.ip_addresses(network="127.0.0.0/8").map(str),
    st.one_of(
        st.sampled_from(["127.0.0.01", "::1", "::ffff:127.0.0.1", "10.0.0.1", "0.0.0.0"]),
        st.ip_addresses().map(str),
        TEXTS,
    ),
)

_PORTS = st.lists(st.integers(0, 65_536) | st.sampled_from([8080, 61443]), max_size=4)

_MODULES = st.from_regex(
    r"(envoy|google|udpa|validate|xds)(\.(protobuf|internal|pyext|rpc|type|v3|[a-z_]{1,5})){0,3}",
    fullmatch=True,
)
_SYMBOLS = st.one_of(
    st.sampled_from(["c2c.v1.AppService", "c2c.v1.AppService.GetApp", "google.protobuf.Any"]),
    _MODULES.map(lambda module: f"{module}.X"),
    st.text(max_size=20),
)


def requests(kind: type[Message], node: str) -> Requests:
    """Return requests that mean something, requests of any content, and no requests at all.

    Args:
        node: whom a discovery request is from.
    """
    return st.one_of(*_sensible(kind, node), messages(kind), st.binary(max_size=200))


def _sensible(kind: type[Message], node: str) -> list[Requests]:
    if kind not in _FIELDS:
        return []
    always, maybe = _FIELDS[kind]
    if "node" in kind.DESCRIPTOR.fields_by_name:
        always = {"node": st.just({"id": node}), **always}
    return [
        st.fixed_dictionaries(always, optional=maybe).map(
            lambda fields: kind(**fields).SerializeToString()
        )
    ]


_Fields = dict[str, st.SearchStrategy[Any]]

_NONCE: _Fields = {"response_nonce": st.sampled_from(["", "1", "2", "x"])}

_EXTENSION = st.fixed_dictionaries(
    {"containing_type": _SYMBOLS, "extension_number": st.integers(-(2**31), 2**31 - 1)}
)

_LOCATORS = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["a", "c", "*", ""])},
        optional={
            "dynamic_parameters": st.dictionaries(
                st.sampled_from(["env", ""]), st.sampled_from(["prod", "test"])
            )
        },
    ),
    max_size=2,
)

_FIELDS: dict[type[Message], tuple[_Fields, _Fields]] = {
    discovery_pb2.DiscoveryRequest: (
        {"type_url": TYPES, "resource_names": NAMES},
        _NONCE | {"resource_locators": _LOCATORS},
    ),
    discovery_pb2.DeltaDiscoveryRequest: (
        {"type_url": TYPES, "resource_names_subscribe": NAMES},
        _NONCE
        | {
            "resource_names_unsubscribe": NAMES,
            "resource_locators_subscribe": _LOCATORS,
            "resource_locators_unsubscribe": _LOCATORS,
        },
    ),
    identity_pb2.RenewRequest: ({"csr": CSRS}, {"address": ADDRESSES, "app_address": ADDRESSES}),
    enrollment_pb2.EnrollRequest: ({"token": st.text(), "csr": st.just(CSR)}, {}),
    sidecar_pb2.ReportRequest: (
        {"listening": st.booleans()},
        {
            "exposed_ports": _PORTS,
            "open_ports": _PORTS,
            "closed_ports": _PORTS,
            "served_serial": st.from_regex(r"[0-9a-fA-F]{1,41}", fullmatch=True),
            "leaving": st.booleans(),
            "draining": st.booleans(),
            "trusted_roots": st.lists(
                st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True), max_size=17
            ),
            "c2c_port": st.integers(0, 65_536),
        },
    ),
    reflection_pb2.ServerReflectionRequest: (
        {},
        {
            "file_containing_symbol": _SYMBOLS,
            "file_by_filename": st.text(max_size=20) | st.just("c2c/v1/app.proto"),
            "all_extension_numbers_of_type": _SYMBOLS,
            "file_containing_extension": _EXTENSION,
        },
    ),
}
