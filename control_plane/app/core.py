"""The object graph without its ports: everything that stores, decides and plans.

The rule of this module: it is wiring and nothing else. Tests that need no socket use it as it is.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from control_plane.app.authority import new_authority, open_authorities
from control_plane.app.expiring import signing_ca
from control_plane.app.memories import forgetting
from control_plane.app.observed import Observed, Watched, observe
from control_plane.ca import Authority, Profile, new_key_pair
from control_plane.clock import Clock
from control_plane.model.change import Decision
from control_plane.model.draining import leave_draining
from control_plane.model.operators import is_revoked
from control_plane.model.state import State
from control_plane.nodes import Nodes
from control_plane.planner import Planner, PlanOptions
from control_plane.reconciler.certificates.acked_names import AckedNames
from control_plane.reconciler.certificates.custody import Custodian, Custody
from control_plane.reconciler.certificates.expiry import Expiry
from control_plane.reconciler.certificates.holdings import IDENTITY, Holdings
from control_plane.reconciler.certificates.issuer_process import PROGRAM
from control_plane.reconciler.certificates.issuers import Issuers
from control_plane.reconciler.certificates.ledger import Ledger
from control_plane.reconciler.certificates.recorded import RecordedChanges
from control_plane.reconciler.certificates.records import Records
from control_plane.reconciler.convergence import Convergence
from control_plane.reconciler.draining import DRAIN_SECONDS
from control_plane.reconciler.membership.departures import Departures
from control_plane.reconciler.membership.presence import (
    WORDS_AT_ONCE,
    WORDS_PER_SECOND,
    Presence,
)
from control_plane.reconciler.membership.tombstones import Tombstones
from control_plane.reconciler.reconciler import Reconciler
from control_plane.reconciler.served.attestation import Attestation
from control_plane.reconciler.served.probe import Prober
from control_plane.reconciler.served.sight import Sight
from control_plane.registry import Amendment, Registry
from control_plane.server.access.asking import unless_revoked
from control_plane.server.access.identities import Identities
from control_plane.server.access.identity_watch import IdentityWatch
from control_plane.server.access.refusals import RefusalTally
from control_plane.server.access.validity import Validity
from control_plane.server.authorities import Authorities
from control_plane.server.budget import CertificateBudget, check_every_app
from control_plane.server.ca_rotation.progress import RotationProgress
from control_plane.server.ca_rotation.steps import CaRotation, Sources
from control_plane.server.metrics.authorities import AuthorityCollector
from control_plane.server.metrics.instruments import Metrics
from control_plane.server.metrics.observers import TimedWriter
from control_plane.server.observability.stream_log import StreamLog
from control_plane.server.rates import TokenBuckets
from control_plane.settings import Settings
from control_plane.settings.own_authority import read_authority_files, read_router_ca
from control_plane.store.protocol import IssuedRecord, Store


@dataclass(frozen=True, slots=True)
class Core:
    """The objects that the ports serve."""

    settings: Settings
    clock: Clock
    authorities: Authorities
    rotation: CaRotation
    profile: Profile
    registry: Registry
    tombstones: Tombstones
    departures: Departures
    nodes: Nodes
    reconciler: Reconciler
    convergence: Convergence
    presence: Presence
    attestation: Attestation
    custody: Custody
    records: Records
    identities: Identities
    holdings: Holdings
    expiry: Expiry
    refusals: RefusalTally
    observed: Observed

    @property
    def authority(self) -> Authority:
        """The CA that signs now."""
        return self.authorities.current()

    @property
    def budget(self) -> CertificateBudget:
        """What refuses certificates that no TLS client would accept."""
        return CertificateBudget(self.authorities.signing, self.profile)

    @property
    def validity(self) -> Validity:
        """What makes a certificate of ours invalid before its end."""
        authorities = self.authorities
        return Validity(
            self.settings.trust_domain,
            self.clock,
            authorities.issuers,
            authorities.is_gone,
            lambda serial: is_revoked(self.registry.state, serial),
        )


def new_serial() -> int:
    """Return a serial number as Cloud Foundry makes them: the 16 bytes of a UUIDv4."""
    return uuid.uuid4().int


def new_guid() -> str:
    """Return a GUID for an app or an instance."""
    return str(uuid.uuid4())


def _amendment(tombstones: Tombstones, clock: Clock) -> Amendment:
    """Return a function that adds to a change what remains of the things that it removes."""

    def amend(before: State, decision: Decision[Any]) -> Decision[Any]:
        drained = clock.now() + timedelta(seconds=DRAIN_SECONDS)
        return leave_draining(before, tombstones.amend(decision), drained)

    return amend


async def build(settings: Settings, clock: Clock, store: Store) -> Core:
    """Read what is on disk, and put everything together.

    Raises:
        ConfigurationError: something on disk cannot be used.
    """
    profile = Profile(lifetime=settings.certificate_lifetime)
    metrics = Metrics()
    writer = TimedWriter(store, metrics)
    issued = await store.issued()
    authorities = open_authorities(settings, clock, new_serial, issued)
    secrets = [each for each in issued if each.secret != IDENTITY]
    ledger = Ledger(clock, secrets)
    holdings = Holdings(ledger, issued)
    tombstones = Tombstones(holdings, settings.certificate_lifetime, clock)
    records = Records(writer)
    recorded = RecordedChanges(writer, records, lambda: registry.state)
    registry = Registry(
        State.of(await store.load()), recorded, _amendment(tombstones, clock), unless_revoked
    )
    nodes = Nodes()
    acked_names = AckedNames(ledger, secrets, records.note)

    def note_identity(record: IssuedRecord) -> None:
        records.note(record)
        holdings.identity_issued(record)

    current = authorities.current
    custodian = Custodian(
        authority=current,
        profile=profile,
        new_key=new_key_pair,
        new_serial=new_serial,
        note=ledger.issued,
        issuing=metrics.certificates.issuing,
        issued_elsewhere=metrics.certificates.issue_duration.observe,
    )
    custody = Custody(custodian, secrets)
    planner = Planner(_plan_options(settings))
    planner.warm_up()
    issuers = Issuers(PROGRAM, current, profile, new_serial, clock)
    reconciler = Reconciler(registry.state, nodes, planner, custody, clock, issuers)
    registry.subscribe(reconciler.committed)
    registry.foresee(reconciler.foresight.foreseen)
    presence = _presence(registry, nodes, reconciler, clock)
    nodes.observe(reconciler)
    nodes.observe(presence)
    identities = Identities(
        current,
        settings.trust_domain,
        profile=profile,
        new_serial=new_serial,
        clock=clock,
        note=note_identity,
        note_first=recorded.note_first,
        of_ports=_with_uri(secrets),
    )
    refusals = RefusalTally(clock)
    nodes.observe(StreamLog(refusals))
    watch = IdentityWatch(nodes, identities, holdings, authorities.is_gone, clock)
    nodes.observe(watch)
    reconciler.on_clock_jump(watch.clock_jumped)
    attestation = Attestation(clock)
    sight = partial(_sight, registry, attestation, planner.options, clock)
    # Each has a prober of its own: a caller of ``wait`` has little time, and must not queue behind
    # background probes of instances that do not answer.
    convergence = Convergence(reconciler, nodes, custody, sight(), clock)
    watched = Watched(registry, nodes, convergence, attestation, ledger, metrics, refusals, clock)
    observed = observe(watched, sight())
    registry.subscribe(
        forgetting(
            (identities, holdings), attestation, acked_names, ledger, observed.proof, convergence
        )
    )
    registry.subscribe(observed.committed)
    progress = RotationProgress(lambda: registry.state, nodes, attestation, ledger, holdings, clock)
    rotation = _ca_rotation(authorities, progress, registry, profile, settings)
    metrics.registry.register(AuthorityCollector(rotation))
    expiry = Expiry(
        lambda: registry.state, nodes, holdings, custody, settings.certificate_lifetime, clock
    )
    expiry.watch(signing_ca(current, settings.certificate_lifetime))
    authorities.observe(watch.authorities_changed)
    authorities.observe(lambda: reconciler.authority_changed(authorities.rotation.since))
    return Core(
        settings=settings,
        clock=clock,
        authorities=authorities,
        rotation=rotation,
        profile=profile,
        registry=registry,
        tombstones=tombstones,
        departures=Departures(holdings, settings.certificate_lifetime, clock),
        nodes=nodes,
        reconciler=reconciler,
        convergence=convergence,
        presence=presence,
        attestation=attestation,
        custody=custody,
        records=records,
        identities=identities,
        holdings=holdings,
        expiry=expiry,
        refusals=refusals,
        observed=observed,
    )


def _presence(registry: Registry, nodes: Nodes, reconciler: Reconciler, clock: Clock) -> Presence:
    words = TokenBuckets(WORDS_PER_SECOND, WORDS_AT_ONCE, clock)
    presence = Presence(registry, nodes, words.take, reconciler.standing.awaits_plan)
    reconciler.on_plan(presence.planned)
    return presence


def _sight(
    registry: Registry, attestation: Attestation, options: PlanOptions, clock: Clock
) -> Sight:
    source = next(iter(options.probers), None)
    return Sight(lambda: registry.state, attestation, clock, prober=Prober(), source=source)


def _with_uri(secrets: Iterable[IssuedRecord]) -> frozenset[int]:
    """Return the serials of secrets with a SPIFFE id, which an older release issued."""
    return frozenset(
        each.serial for each in secrets if any(name.startswith("spiffe:") for name in each.names)
    )


def _ca_rotation(
    authorities: Authorities,
    progress: RotationProgress,
    registry: Registry,
    profile: Profile,
    settings: Settings,
) -> CaRotation:
    clock, domains = progress.clock, settings.internal_domains
    sources = Sources(
        lambda: new_authority(clock, new_serial()),
        lambda certificate, key: read_authority_files(certificate, key, clock.now(), domains),
        new_serial,
    )
    check = partial(check_every_app, registry.settled, profile)
    return CaRotation(authorities, progress, sources, check_sizes=check, clock=clock)


def _plan_options(settings: Settings) -> PlanOptions:
    address = settings.xds_address
    return PlanOptions(
        internal_domains=settings.internal_domains,
        router_ca_pem=read_router_ca(settings.router_ca) if settings.router_ca else b"",
        router_sans=settings.router_sans,
        unproxied=settings.unproxied_port_mappings,
        probers=() if address.is_every else (address.host,),
    )
