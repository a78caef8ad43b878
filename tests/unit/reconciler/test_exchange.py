"""Routes that are exchanged where no more would fit into the handshake of a certificate."""

from __future__ import annotations

from control_plane.ca import Profile, size_problem
from control_plane.model.routes import unmap_route
from control_plane.model.state import State
from control_plane.names import InstanceGuid
from control_plane.planner import c2c_request
from control_plane.reconciler.publication.names import LINGER_SECONDS
from tests.unit.model.world import A, B, allow, mapping, register, world
from tests.unit.reconciler.clocks import settled
from tests.unit.reconciler.worlds import World, authority

A0, B0 = InstanceGuid("a0"), InstanceGuid("b0")


def full() -> State:
    """Return app ``a`` that may reach app ``b``, which has as many long routes as it can have."""
    state = register(register(world("a", "b"), A0, A, "10.0.0.1"), B0, B, "10.0.1.1")
    state, number = allow(state, A, B), 0
    while True:
        more = mapping(state, B, f"{number:063d}").state
        request = c2c_request(more, more.apps[B], more.instances[B0])
        if size_problem(authority(), Profile(), request):
            return state
        state, number = more, number + 1


async def test_a_route_that_takes_the_place_of_another_waits_until_that_is_gone() -> None:
    """Who was led there by the old one finds it in the certificate, and the reason says so."""
    around = World(full())
    peer, resolver = around.connect(B0).as_envoy(), around.connect(A0).as_resolver()
    old, new = f"{0:063d}", "n" * 63
    first = around.leaf(B0)
    async with around.running():
        around.commit(unmap_route(around.state, B, old, "apps.internal"))
        around.commit(mapping(around.state, B, new))
        await settled()
        peer.settle()

        assert around.leaf(B0) == first
        assert around.custody.failure(B0).endswith(
            "routes that were unmapped just now count until no resolver answers them, and it is "
            "issued once it fits"
        )
        resolver.settle()
        await settled()
        await around.clock.advance(LINGER_SECONDS)
        await settled()
        peer.settle()
        await settled()

        assert f"{new}.apps.internal" in around.leaf(B0).san.dns
        assert around.reconciler.publication.published(B) == around.state.hostnames_of(B)
