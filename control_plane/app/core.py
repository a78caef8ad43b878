"""The object graph without its ports: everything that knows, decides and plans.

The rule of this module: it is wiring and nothing else. Tests that need no socket use it as it is.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from control_plane.app.authority import open_authority
from control_plane.ca import Authority, Profile, new_key_pair
from control_plane.clock import Clock
from control_plane.model.state import State
from control_plane.nodes import Nodes
from control_plane.planner import Planner
from control_plane.reconciler.convergence import Convergence
from control_plane.reconciler.custody import Custodian, Custody
from control_plane.reconciler.probe import Prober
from control_plane.reconciler.reconciler import Reconciler
from control_plane.registry import Registry
from control_plane.server.identities import Identities
from control_plane.settings import Settings
from control_plane.store.protocol import Store


@dataclass(frozen=True, slots=True)
class Core:
    """What the ports serve."""

    settings: Settings
    clock: Clock
    authority: Authority
    profile: Profile
    registry: Registry
    nodes: Nodes
    reconciler: Reconciler
    convergence: Convergence
    identities: Identities


def new_serial() -> int:
    """Return a serial number as Cloud Foundry makes them: the 16 bytes of a UUIDv4."""
    return uuid.uuid4().int


def new_guid() -> str:
    """Return a GUID for an app or an instance."""
    return str(uuid.uuid4())


async def build(settings: Settings, clock: Clock, store: Store) -> Core:
    """Read what is on disk, and put everything together.

    Raises:
        ConfigurationError: something on disk cannot be used.
    """
    authority = open_authority(settings, clock, new_serial)
    profile = Profile(lifetime=settings.certificate_lifetime)
    registry = Registry(State.of(await store.load()), store)
    nodes = Nodes()
    custody = Custody(Custodian(authority, profile, new_key_pair, new_serial))
    reconciler = Reconciler(registry.state, nodes, Planner(), custody, clock)
    registry.subscribe(reconciler.committed)
    nodes.observe(reconciler)
    identities = Identities(
        authority, settings.trust_domain, profile=profile, new_serial=new_serial, clock=clock
    )
    convergence = Convergence(reconciler, nodes, custody, Prober(), clock)
    return Core(
        settings,
        clock,
        authority,
        profile,
        registry,
        nodes,
        reconciler,
        convergence,
        identities,
    )
