"""Proof of serving: an ACK is not believed before somebody has looked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from control_plane.model.entities import InstanceStatus
from control_plane.model.instances import remove_instance, set_status
from control_plane.names import InstanceGuid
from control_plane.reconciler.backlog import CROWD, RUSH_SECONDS
from control_plane.reconciler.certificates.ledger import CertificateState
from control_plane.reconciler.served.attestation import (
    FELL_SILENT,
    NOBODY_LOOKS,
    REPORT_SECONDS,
)
from control_plane.reconciler.served.proof import CROWD_SECONDS, GRACE_SECONDS
from control_plane.xds.resource_type import LISTENER, SECRET
from tests.unit.model.world import B, mapping, register, world
from tests.unit.reconciler.clocks import settled
from tests.unit.reconciler.proving import B0, CLOSED, SOURCE, Scene
from tests.unit.reconciler.worlds import C2C_SECRET, ID_SECRET, Peer

ADDRESS = "10.0.1.1"


@asynccontextmanager
async def scene(*, source: str | None = SOURCE) -> AsyncIterator[Scene]:
    """Run one until the block ends."""
    made = Scene(register(world("b"), B0, B, ADDRESS), source=source)
    async with made.running():
        yield made
        await made.proof.close()


async def rotated(made: Scene, peer: Peer) -> None:
    """Map a route, and let Envoy ACK the certificate for it."""
    made.commit(mapping(made.state, B, "app-b"))
    await settled()
    peer.settle()
    await settled()


async def test_an_ack_is_looked_at_until_it_is_true() -> None:
    """ACKed when Envoy says so, served when a handshake from our address shows it."""
    async with scene() as made:
        peer = made.connect(B0)
        assert made.stands("issued")
        peer.as_envoy()
        assert made.stands("acked")
        await settled()
        assert not made.proof.is_served(B0)
        assert made.proof.is_seen(B0) is False
        made.show_newest()
        await made.clock.advance(0.1)

        assert made.standing() == (CertificateState.SERVED, "")
        assert made.proof.shown_serial(B0) == made.entry.record.serial
        assert set(made.prober.looked) == {(ADDRESS, SOURCE)}
        assert made.proof.is_served(B0)
        assert made.proof.is_seen(B0) is True


async def test_what_is_acked_and_not_served_is_a_state_of_its_own() -> None:
    """It is said once Envoy had time enough, with what was seen; and looking goes on."""
    async with scene() as made:
        peer = made.connect(B0).as_envoy()
        old = made.show_newest()
        await made.clock.advance(0.1)
        await rotated(made, peer)
        assert made.stands("acked")
        await made.clock.advance(2 * GRACE_SECONDS)

        assert made.standing() == (
            CertificateState.NOT_SERVED,
            f"the last TLS handshake with port 61443 showed serial {old:x}",
        )
        made.prober.shows = CLOSED
        await made.clock.advance(60)
        assert made.standing() == (CertificateState.NOT_SERVED, CLOSED)
        made.show_newest()
        await made.clock.advance(60)
        assert made.standing() == (CertificateState.SERVED, "")


async def test_looking_becomes_rarer() -> None:
    """An instance that does not serve costs a handshake a minute, and no more."""
    async with scene() as made:
        made.connect(B0).as_envoy()
        await made.clock.advance(100)
        before = len(made.prober.looked)
        await made.clock.advance(600)

        assert before < 10
        assert len(made.prober.looked) - before == 10


async def test_a_new_certificate_is_looked_at_at_once() -> None:
    """However rarely its instance is looked at by then, for it did not serve the one before."""
    async with scene() as made:
        peer = made.connect(B0).as_envoy()
        await made.clock.advance(100)
        await rotated(made, peer)
        made.show_newest()
        await made.clock.advance(0.1)

        assert made.stands("served")


async def test_an_envoy_that_came_back_is_looked_at_at_once() -> None:
    """It may well serve now what it did not serve before."""
    async with scene() as made:
        peer = made.connect(B0).as_envoy()
        await made.clock.advance(100)
        peer.close()
        made.connect(B0).as_envoy()
        made.show_newest()
        await made.clock.advance(0.1)

        assert made.stands("served")


async def test_an_envoy_that_listens_at_last_is_looked_at_at_once() -> None:
    """It refused its listener while another program had the port, and was looked at rarely."""
    async with scene() as made:
        peer = made.connect(B0)
        peer.ask(SECRET, C2C_SECRET)
        peer.settle()
        peer.ask(LISTENER)
        peer.receive()
        peer.nack("cannot bind: address already in use")
        await made.clock.advance(100)
        assert made.standing() == (CertificateState.NOT_SERVED, CLOSED)
        looked = len(made.prober.looked)

        peer.receive()
        made.show_newest()
        peer.ack()
        await made.clock.advance(0.1)
        assert made.stands("served")
        assert len(made.prober.looked) == looked + 1


async def test_nobody_looks_after_the_end() -> None:
    """However often looking began anew, nobody is left from before who goes on."""
    async with scene() as made:
        peer = made.connect(B0).as_envoy()
        await made.clock.advance(100)
        await rotated(made, peer)
        await made.proof.close()
        looked = len(made.prober.looked)

        await made.clock.advance(1000)
        assert len(made.prober.looked) == looked


async def crowd_for(made: Scene, seconds: int) -> None:
    """Have so many connect in each second that those who come are served first."""
    for _ in range(seconds):
        peers = [made.connect(B0) for _ in range(CROWD)]
        await made.clock.advance(1)
        for each in peers:
            each.close()


async def test_a_crowd_is_served_before_it_is_looked_at() -> None:
    """Handshakes with those who just came would take what the others wait for."""
    async with scene() as made:
        await crowd_for(made, 1)
        peer = made.connect(B0)
        await settled()  # until its turn
        peer.as_envoy()
        made.show_newest()
        await crowd_for(made, 10)
        assert made.stands("acked")
        assert made.prober.looked == []
        await made.clock.advance(RUSH_SECONDS + 2 * GRACE_SECONDS)

        assert made.stands("served")


async def test_a_crowd_without_end_keeps_nobody_from_being_looked_at() -> None:
    """Who serves is known after a minute, however many come and go."""
    async with scene() as made:
        await crowd_for(made, 1)
        peer = made.connect(B0)
        await settled()  # until its turn
        peer.as_envoy()
        made.show_newest()
        await crowd_for(made, int(CROWD_SECONDS + 2 * GRACE_SECONDS) + 1)

        assert made.stands("served")


async def test_the_sidecar_is_the_better_witness() -> None:
    """Where one reports nobody else connects, and what it sees counts at once, both ways."""
    async with scene() as made:
        made.attestation.report(B0, None, ())
        made.connect(B0).as_envoy()
        serial = made.entry.record.serial
        made.attestation.report(B0, serial, ())
        assert made.stands("served")
        made.attestation.report(B0, 0xBAD, ())
        assert made.stands("acked")
        assert made.proof.shown_serial(B0) == 0xBAD
        made.attestation.report(B0, serial, ())
        assert made.stands("served")
        await settled()

        assert made.prober.looked == []


async def test_a_report_does_not_replace_the_ack() -> None:
    """What a sidecar saw before the ACK counts when the ACK is there."""
    async with scene() as made:
        peer = made.connect(B0)
        made.attestation.report(B0, made.entry.record.serial, ())
        assert made.stands("issued")
        peer.as_envoy()
        await settled()

        assert made.stands("served")


async def test_a_sidecar_that_sees_nothing_says_so() -> None:
    """The reason names its handshake, once Envoy had time enough."""
    async with scene() as made:
        made.attestation.report(B0, None, ())
        made.connect(B0).as_envoy()
        await made.clock.advance(2 * GRACE_SECONDS)
        made.attestation.report(B0, None, ())
        await settled()

        assert made.standing() == (
            CertificateState.NOT_SERVED,
            "its sidecar has no TLS handshake with port 61443",
        )


async def test_who_is_about_to_stop_need_not_serve() -> None:
    """Its Envoy ends before its app, which may call others and so resolves names to the end."""
    async with scene() as made:
        made.connect(B0).as_resolver()
        peer = made.connect(B0).as_envoy()
        made.attestation.report(B0, made.entry.record.serial, ())
        assert made.stands("served")
        made.commit(mapping(made.state, B, "app-b"))
        await settled()
        waiting = asyncio.create_task(made.proof.served([B0], 60))
        await settled()
        assert not waiting.done()

        made.attestation.report(B0, None, (), is_ending=True)
        assert await waiting == frozenset()
        await rotated(made, peer)
        made.attestation.report(B0, None, (), is_ending=True)
        await made.clock.advance(2 * GRACE_SECONDS)
        assert made.stands("acked")
        peer.close()
        await made.clock.advance(2 * GRACE_SECONDS)

        assert not made.stands("not_served")
        assert made.prober.looked == []


async def test_who_was_about_to_stop_and_is_back_has_to_serve() -> None:
    """The sidecar that is started again says so by its first report."""
    async with scene() as made:
        made.connect(B0).as_envoy()
        made.attestation.report(B0, None, (), is_ending=True)
        made.attestation.report(B0, None, ())
        assert not made.proof.is_served(B0)
        made.attestation.report(B0, made.entry.record.serial, ())

        assert made.stands("served")


@pytest.mark.parametrize("source", [None, "fd00::1"])
async def test_without_a_witness_nothing_is_claimed(source: str | None) -> None:
    """Where nobody can look, ACKed is the last word, with the reason; a sidecar's report helps.

    From an address of IPv6 nobody can look at one of IPv4.
    """
    async with scene(source=source) as made:
        made.connect(B0).as_envoy()
        await made.clock.advance(10)
        assert made.standing() == (CertificateState.ACKED, NOBODY_LOOKS)
        assert made.proof.is_seen(B0) is None
        assert await made.proof.served([B0], 0) == frozenset()
        made.attestation.report(B0, made.entry.record.serial, ())

        assert made.standing() == (CertificateState.SERVED, "")


async def test_a_witness_that_falls_silent_leaves_what_it_said() -> None:
    """Nobody knows better, so what was not seen is still not served; the reason is the silence."""
    async with scene(source=None) as made:
        made.attestation.report(B0, None, ())
        assert not made.attestation.fell_silent(B0)
        peer = made.connect(B0)
        peer.ask(SECRET, C2C_SECRET)
        peer.settle()
        await made.clock.advance(2 * GRACE_SECONDS)
        assert made.stands("not_served")
        await made.clock.advance(5 * REPORT_SECONDS[0])
        peer.ask(LISTENER)
        peer.settle()  # so that it is looked at again
        await settled()

        assert made.attestation.fell_silent(B0)
        assert made.standing() == (CertificateState.NOT_SERVED, FELL_SILENT)


async def test_an_envoy_that_restarted_begins_anew() -> None:
    """It has nothing, so its certificate is issued and no more until it ACKs it again."""
    async with scene() as made:
        peer = made.connect(B0).as_envoy()
        made.show_newest()
        await made.clock.advance(0.1)
        peer.close()
        assert made.stands("served")
        again = made.connect(B0)
        again.ask(SECRET, C2C_SECRET, ID_SECRET)
        assert made.stands("issued")
        again.settle()
        await made.clock.advance(0.1)

        assert made.stands("served")


async def test_a_client_that_reconnects_with_its_certificate_has_it() -> None:
    """W9: what it states to have is as good as an ACK, though none comes."""
    async with scene() as made:
        peer = made.connect(B0).as_envoy()
        peer.close()
        await settled()
        made.show_newest()
        version = made.entry.record.version
        made.connect(B0).ask(SECRET, has={C2C_SECRET: version})
        await made.clock.advance(30)

        assert made.stands("served")


async def test_nobody_waits_for_who_is_not_there() -> None:
    """An instance that disconnects, or was never there, holds nobody up."""
    async with scene() as made:
        peer = made.connect(B0).as_envoy()
        waiting = asyncio.create_task(made.proof.served([B0], 20))
        await settled()
        assert not waiting.done()
        peer.close()

        assert await waiting == frozenset()
        assert await made.proof.served([B0, InstanceGuid("nobody")], 0) == frozenset()


async def test_waiting_ends_when_the_certificate_is_served() -> None:
    """Whoever waits is told at once, or gets the names of those who are late."""
    async with scene() as made:
        made.connect(B0).as_envoy()
        assert await made.proof.served([B0], 0) == {B0}
        waiting = asyncio.create_task(made.proof.served([B0], 20))
        await settled()
        made.show_newest()
        await made.clock.advance(0.1)

        assert await waiting == frozenset()


async def test_a_look_that_took_too_long_proves_nothing() -> None:
    """What was seen of a certificate that was replaced meanwhile says nothing of the new one."""
    async with scene() as made:
        peer = made.connect(B0).as_envoy()
        await settled()
        made.prober.hold = asyncio.Event()
        await made.clock.advance(5)
        await rotated(made, peer)
        held, made.prober.hold = made.prober.hold, None
        held.set()
        await settled()

        assert made.standing() == (CertificateState.ACKED, "")


async def test_who_may_be_back_is_waited_for_and_who_is_gone_is_not() -> None:
    """A stream that ends shows no certificate; one that was away before is waited for by nobody."""
    async with scene() as made:
        made.ready(B0)
        peer = made.connect(B0).as_envoy()
        waiting = asyncio.create_task(made.proof.served([B0], 30))
        await settled()
        peer.close()
        await settled()
        assert not waiting.done()
        assert await made.proof.served([B0], 30) == frozenset()

        made.commit(set_status(made.state, B0, InstanceStatus.GONE))
        made.proof.gone(B0)

        assert await waiting == frozenset()


async def test_who_is_back_is_waited_for_until_it_serves() -> None:
    """It ACKs its certificate anew, and somebody looks."""
    async with scene() as made:
        made.ready(B0)
        peer = made.connect(B0).as_envoy()
        waiting = asyncio.create_task(made.proof.served([B0], 30))
        await settled()
        peer.close()
        made.connect(B0).as_envoy()
        await settled()
        assert not waiting.done()
        made.show_newest()
        await made.clock.advance(0.1)

        assert await waiting == frozenset()


async def test_a_removed_instance_is_not_looked_at() -> None:
    """What is not in the ledger any more is nobody's business."""
    async with scene() as made:
        made.connect(B0).as_envoy()
        await settled()
        made.ledger.forget(B0)
        made.proof.forget(B0)
        assert made.proof.shown_serial(B0) is None
        made.attestation.report(B0, 1, ())
        before = len(made.prober.looked)
        await made.clock.advance(60)

        assert len(made.prober.looked) == before


async def test_a_look_at_who_was_removed_meanwhile_leaves_nothing() -> None:
    """It was under way when the instance went, and what it saw is remembered for nobody."""
    async with scene() as made:
        made.prober.hold = asyncio.Event()
        made.connect(B0).as_envoy()
        await settled()
        made.show_newest()
        assert len(made.prober.looked) == 1

        made.commit(remove_instance(made.state, B0))
        made.ledger.forget(B0)
        made.proof.forget(B0)
        made.prober.hold.set()
        await settled()

        assert made.proof.shown_serial(B0) is None
        assert not made.proof._sight._shown
