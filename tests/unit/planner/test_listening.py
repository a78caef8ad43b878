"""On which ports an instance listens, what each leads to, and by which certificate it is known."""

from __future__ import annotations

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2

from control_plane.model.state import State
from control_plane.names import AppGuid
from control_plane.planner import PlanOptions
from control_plane.xds.resource_type import CLUSTER
from control_plane.xds.snapshot import Snapshot
from tests.unit.planner import worlds

ROUTERS = PlanOptions(router_ca_pem=b"-----BEGIN CERTIFICATE-----", router_sans=("router",))
UNPROXIED = PlanOptions(unproxied=True)


def tls_of(snapshot: Snapshot, listener: str) -> list[tls_pb2.DownstreamTlsContext]:
    """Return the TLS context of each chain of a listener."""
    return [
        tls_pb2.DownstreamTlsContext.FromString(chain.transport_socket.typed_config.value)
        for chain in worlds.listeners(snapshot)[listener].filter_chains
    ]


def certificates(snapshot: Snapshot, listener: str) -> set[str]:
    """Return the secrets whose certificates a listener shows."""
    return {
        config.name
        for tls in tls_of(snapshot, listener)
        for config in tls.common_tls_context.tls_certificate_sds_secret_configs
    }


def endpoints(snapshot: Snapshot) -> dict[str, tuple[str, int]]:
    """Return where each cluster leads."""
    found = {}
    for resource in snapshot.of_type(CLUSTER).resources.values():
        cluster = cluster_pb2.Cluster.FromString(resource.body)
        (locality,) = cluster.load_assignment.endpoints
        (endpoint,) = locality.lb_endpoints
        where = endpoint.endpoint.address.socket_address
        found[cluster.name] = (where.address, where.port_value)
    return found


def filters_of(snapshot: Snapshot, listener: str) -> set[str]:
    """Return the last network filter of the chains that lead to the app."""
    return {
        chain.filters[-1].name.rpartition(".")[2]
        for chain in worlds.listeners(snapshot)[listener].filter_chains
        if chain.name.startswith("from-")
    }


def test_an_app_is_served_on_61001_and_61443() -> None:
    """Both listen on the instance's address and lead to the app at the address it listens on."""
    state = worlds.instance(worlds.story(), "b2", "10.0.1.9", app_address="10.0.1.8")
    snapshot = worlds.plan(state, "b2")

    assert sorted(worlds.listeners(snapshot)) == ["listener-8080-61001", "listener-8080-61443"]
    for listener in worlds.listeners(snapshot).values():
        assert listener.address.socket_address.address == "10.0.1.9"
    assert endpoints(snapshot) == {"service-cluster-8080": ("10.0.1.8", 8080)}


def test_each_port_shows_its_own_certificate() -> None:
    """61443 shows the one with the routes, 61001 the instance's own; neither asks the client."""
    snapshot = worlds.plan(worlds.story())

    assert certificates(snapshot, "listener-8080-61443") == {"c2c-cert-and-key"}
    assert certificates(snapshot, "listener-8080-61001") == {"id-cert-and-key"}
    for name in worlds.listeners(snapshot):
        assert not any(tls.require_client_certificate.value for tls in tls_of(snapshot, name))


def test_every_port_of_an_app_has_a_listener_and_a_cluster() -> None:
    """Two ports: 61443 leads to the chosen one, and no cluster is there twice."""
    snapshot = worlds.plan(worlds.story(ports=(7070, 9090), c2c_port=9090))

    assert sorted(worlds.listeners(snapshot)) == [
        "listener-7070-61001",
        "listener-9090-61002",
        "listener-9090-61443",
    ]
    assert sorted(endpoints(snapshot)) == ["service-cluster-7070", "service-cluster-9090"]


def test_ssh_is_plain_tcp_beside_an_http_app() -> None:
    """Port 2222 is proxied as bytes, whatever the app speaks."""
    snapshot = worlds.plan(worlds.policy(worlds.story(ssh=True), "a", "b", "1-65535"))

    assert filters_of(snapshot, "listener-2222-61002") == {"tcp_proxy"}
    assert filters_of(snapshot, "listener-8080-61001") == {"http_connection_manager"}


def test_port_2222_is_an_ordinary_port_without_ssh() -> None:
    """An HTTP app that listens there itself is an HTTP app there."""
    state = worlds.policy(worlds.story(ports=(2222,)), "a", "b", "61443")

    assert filters_of(worlds.plan(state), "listener-2222-61443") == {"http_connection_manager"}


def test_a_tcp_app_has_no_http_filter() -> None:
    """A tcp app is proxied as bytes; what is over ECDS is for connections from when it was not."""
    snapshot = worlds.plan(worlds.policy(worlds.story(protocol="tcp"), "a", "b"))

    assert filters_of(snapshot, "listener-8080-61443") == {"tcp_proxy"}
    assert set(worlds.requesters(snapshot)) == {"allowed-sources-61443-a"}


@pytest.mark.parametrize(
    "options", [PlanOptions(), ROUTERS, UNPROXIED], ids=["defaults", "routers", "unproxied"]
)
def test_an_app_on_windows_has_nothing(options: PlanOptions) -> None:
    """Container-to-container networking is not for Windows, so nothing is opened there.

    Nobody can register such an instance; one may be left from before its app moved.
    """
    state = worlds.story()
    windows = worlds.app(State(), "b", os="windows").apps[AppGuid("b")]

    snapshot = worlds.plan(state.put(windows), options=options)

    assert worlds.ports(snapshot) == []
    assert endpoints(snapshot) == {}


def test_routers_are_admitted_by_their_certificate() -> None:
    """With a router CA 61001 is open to every address that shows a certificate of a router."""
    state = worlds.policy(worlds.story(), "a", "b", "61001-61443")
    snapshot = worlds.plan(state, options=ROUTERS)

    (tls,) = tls_of(snapshot, "listener-8080-61001")
    assert tls.require_client_certificate.value
    validation = tls.common_tls_context.validation_context_sds_secret_config
    assert validation.name == "id-validation-context"
    (chain,) = worlds.listeners(snapshot)["listener-8080-61001"].filter_chains
    assert chain.name == "from-everybody"
    assert worlds.chains(snapshot, "listener-8080-61001") == {}
    assert filters_of(snapshot, "listener-8080-61001") == {"http_connection_manager"}
    # No filter is named there, so none is delivered for it: 403 would be the answer.
    assert set(worlds.requesters(snapshot)) == {"allowed-sources-61443-a"}


def test_a_router_is_no_app_on_61443() -> None:
    """The certificate of a router opens nothing where network policies decide."""
    snapshot = worlds.plan(worlds.story(), options=ROUTERS)

    assert not any(
        tls.require_client_certificate.value for tls in tls_of(snapshot, "listener-8080-61443")
    )
    assert worlds.chains(snapshot, "listener-8080-61443") == {"10.0.1.1": "probe"}


def test_app_ports_are_reached_through_envoy_only_unless_asked_for() -> None:
    """Unproxied ports are off by default."""
    assert 8080 not in worlds.ports(worlds.plan(worlds.story()))


def test_unproxied_ports_are_plain_tcp() -> None:
    """Each port of the app is open on the instance's address, without TLS, as bytes."""
    state = worlds.policy(worlds.story(ports=(8080, 9090)), "a", "b", "9090")
    snapshot = worlds.plan(state, options=UNPROXIED)

    for port in (8080, 9090):
        listener = worlds.listeners(snapshot)[f"listener-{port}-{port}"]
        assert listener.address.socket_address.address == "10.0.1.1"
        assert not any(each.HasField("transport_socket") for each in listener.filter_chains)
    (chain,) = worlds.listeners(snapshot)["listener-9090-9090"].filter_chains
    (proxy,) = chain.filters
    config = tcp_proxy_pb2.TcpProxy.FromString(proxy.typed_config.value)
    assert config.cluster == "service-cluster-9090"
    assert worlds.chains(snapshot, "listener-8080-8080") == {"255.255.255.255": "nobody"}
    assert worlds.chains(snapshot, "listener-9090-9090") == {"10.0.0.1": "from-a"}


def test_an_app_that_listens_on_the_instances_address_is_left_alone() -> None:
    """Envoy cannot bind a port that the app has itself."""
    state = worlds.instance(worlds.story(), "b2", "10.0.1.9", app_address="10.0.1.9")

    snapshot = worlds.plan(state, "b2", options=UNPROXIED)

    assert worlds.ports(snapshot) == [61001, 61443]
