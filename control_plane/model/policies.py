"""Commands on network policies: add and remove.

The rule of this module: the values, the order in which they are checked, and every sentence are
those of Cloud Foundry's policy server, because tools match on them. A request is accepted as a
whole or refused as a whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from control_plane.errors import InvalidArgument, LimitExceeded, NotFound
from control_plane.model.apps import lookup_app
from control_plane.model.change import Decision, decide
from control_plane.model.entities import NetworkPolicy, Transport
from control_plane.model.reach import require_networking
from control_plane.model.state import State
from control_plane.names import AppGuid, Port

DEFAULT_POLICY_LIMIT = 150
"""How many policies a source app may have: Cloud Foundry's max_policies_per_app_source."""

MAX_PORT = 65535

UNKNOWN_APP = "one or more applications cannot be found or accessed"


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """A network policy as a caller writes it.

    Attributes:
        source: name or GUID of the app that connects.
        destination: name or GUID of the app that it connects to.
        protocol: ``tcp`` or ``udp``.
        start_port: the first port, and the only one if ``end_port`` is the same.
        source_org: the org in which the source's name is looked up, and so on; "" for the default.
    """

    source: str
    destination: str
    protocol: str
    start_port: int
    end_port: int
    source_org: str = ""
    source_space: str = ""
    destination_org: str = ""
    destination_space: str = ""


@dataclass(frozen=True, slots=True)
class PolicyOutcome:
    """What became of one policy of a request.

    Attributes:
        already: whether the policy existed before an addition, or did not exist before a removal,
            so that nothing changed.
    """

    policy: NetworkPolicy
    already: bool


def add_policies(
    state: State, specs: Sequence[PolicySpec], limit: int = DEFAULT_POLICY_LIMIT
) -> Decision[tuple[PolicyOutcome, ...]]:
    """Let apps connect to apps; the result has an outcome for each spec.

    Args:
        limit: how many policies one source app may have afterwards. A repetition does not count,
            and a request that adds nothing is never refused for it.

    Raises:
        InvalidArgument: a policy breaks a rule; the error names the first that does.
        NotFound: an app is not known.
        FailedPrecondition: an app runs on Windows.
        LimitExceeded: a source app would have too many policies.
    """
    policies = _parse(state, specs)
    for number, policy in enumerate(policies):
        require_networking(state, policy.source, field=f"policies[{number}].source")
        require_networking(state, policy.destination, field=f"policies[{number}].destination")
    new = tuple(policy for policy in dict.fromkeys(policies) if not state.has_policy(policy))
    for source, added in Counter(policy.source for policy in new).items():
        if len(state.policies_from(source)) + added > limit:
            raise LimitExceeded("policy quota exceeded", field="policies")
    return decide(state, _outcomes(policies, new), puts=new, apps=_ends(new))


def remove_policies(
    state: State, specs: Sequence[PolicySpec]
) -> Decision[tuple[PolicyOutcome, ...]]:
    """Remove policies; to remove one that does not exist is no error.

    Raises:
        InvalidArgument: a policy breaks a rule; the error names the first that does.
        NotFound: an app is not known.
    """
    policies = _parse(state, specs)
    old = tuple(policy for policy in dict.fromkeys(policies) if state.has_policy(policy))
    return decide(state, _outcomes(policies, old), drops=old, apps=_ends(old))


def _parse(state: State, specs: Sequence[PolicySpec]) -> list[NetworkPolicy]:
    """Return the policies that the specs describe.

    As Cloud Foundry does, this checks all values first, and only then whether the apps exist.
    """
    if not specs:
        raise InvalidArgument("missing policies", field="policies")
    for number, spec in enumerate(specs):
        _check(spec, f"policies[{number}]")
    return [_resolve(state, spec, f"policies[{number}]") for number, spec in enumerate(specs)]


def _check(spec: PolicySpec, path: str) -> None:
    if not spec.source:
        raise InvalidArgument("missing source id", field=f"{path}.source")
    if not spec.destination:
        raise InvalidArgument("missing destination id", field=f"{path}.destination")
    if spec.protocol not in set(Transport):
        raise InvalidArgument(
            "invalid destination protocol, specify either udp or tcp", field=f"{path}.protocol"
        )
    _check_range(spec.start_port, spec.end_port, path)


def _check_range(start: int, end: int, path: str) -> None:
    if start > end:
        raise InvalidArgument(
            f"invalid port range {start}-{end}, start must be less than or equal to end",
            field=f"{path}.start_port",
        )
    if start < 0:
        raise InvalidArgument(
            f"invalid start port {start}, must be in range 1-{MAX_PORT}", field=f"{path}.start_port"
        )
    if start == 0:
        raise InvalidArgument("missing start port", field=f"{path}.start_port")
    if end > MAX_PORT:
        raise InvalidArgument(
            f"invalid end port {end}, must be in range 1-{MAX_PORT}", field=f"{path}.end_port"
        )


def _resolve(state: State, spec: PolicySpec, path: str) -> NetworkPolicy:
    source = lookup_app(state, spec.source, spec.source_org, spec.source_space)
    destination = lookup_app(state, spec.destination, spec.destination_org, spec.destination_space)
    if source is None:
        raise NotFound(UNKNOWN_APP, field=f"{path}.source")
    if destination is None:
        raise NotFound(UNKNOWN_APP, field=f"{path}.destination")
    return NetworkPolicy(
        source.guid,
        destination.guid,
        Transport(spec.protocol),
        Port(spec.start_port),
        Port(spec.end_port),
    )


def _outcomes(
    policies: Sequence[NetworkPolicy], changed: Sequence[NetworkPolicy]
) -> tuple[PolicyOutcome, ...]:
    """Return an outcome for each policy; if one is repeated, only the first changed anything."""
    unreported = set(changed)
    outcomes = []
    for policy in policies:
        outcomes.append(PolicyOutcome(policy, already=policy not in unreported))
        unreported.discard(policy)
    return tuple(outcomes)


def _ends(policies: Sequence[NetworkPolicy]) -> frozenset[AppGuid]:
    """Return the apps that policies concern: one end's listeners, the other end's name tables."""
    return frozenset(app for policy in policies for app in (policy.source, policy.destination))
