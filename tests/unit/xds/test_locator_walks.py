"""Random walks of clients that ask by locators: each ends with the variants that are its own."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from control_plane.xds.constraints import Constraints
from control_plane.xds.delivery import ConfigStatus, deliveries
from control_plane.xds.resource import WILDCARD, Resource, TypeUrl
from control_plane.xds.resource_type import CLUSTER, ENDPOINT
from tests.unit.xds.client_walk import ClientWalk
from tests.unit.xds.locating import Asked, Held, LocatingClient, LocatingDelta, LocatingSotw
from tests.unit.xds.notation import constraints
from tests.unit.xds.walking import WALK

NAMES = ("plain", "xdstp://a/T/x/1", "xdstp://a/T/x/2")
GIVEN = (*NAMES, "xdstp://a/T/x/*", WILDCARD)

PARAMETERS: tuple[Asked, ...] = (None, (), (("e", "p"),), (("e", "t"),), (("e", "p"), ("v", "1")))

VARIANTS = (
    ("",),
    ("e=p", "e=t"),
    ("e=p", "!e=p"),
    ("e", "!e"),
    ("e=p,v", "e=p,!v", "!e=p,v"),
    ("e=t",),
)
"""How a name may be divided."""

contents = st.tuples(st.sampled_from(VARIANTS), st.integers(1, 3))


class LocatorWalk(ClientWalk):
    """A client that asks by locators."""

    @initialize(url=st.sampled_from([CLUSTER, ENDPOINT]), applies_good=st.booleans())
    def start(self, url: TypeUrl, *, applies_good: bool) -> None:
        """Start with nothing."""
        self.begin(url)
        kind: type[LocatingClient] = LocatingDelta if self.delta else LocatingSotw
        self.peer = self.client = kind(url, url == CLUSTER, self.is_bad, applies_good)

    @rule(name=st.sampled_from(GIVEN), parameters=st.sampled_from(PARAMETERS))
    def ask(self, name: str, parameters: Asked) -> None:
        """The client wants something, or something again, or with other parameters."""
        self.client.ask(name, parameters)

    @rule(name=st.sampled_from(GIVEN))
    def drop(self, name: str) -> None:
        """The client wants less."""
        self.client.drop(name)

    @rule(numbers=st.dictionaries(st.sampled_from(NAMES), contents))
    def change(self, numbers: dict[str, tuple[tuple[str, ...], int]]) -> None:
        """Resources and variants of them appear, change and go."""
        resources = [
            Resource.of(
                self.url,
                name,
                f"{name}@{number}".encode(),
                constraints=constraints(whose) if whose else None,
            )
            for name, (divided, number) in numbers.items()
            for whose in divided
        ]
        self.set(resources)

    def compare(self) -> None:
        """Compare what the client has with the variants that match its parameters."""
        wanted = {name: self._wanted(name) for name in filter(self.client.wants, NAMES)}
        for name in NAMES:
            has = self.client.has.get(name, {})
            resource = wanted.get(name)
            if resource is not None:
                ((whose, held),) = has.items()
                assert held.version == resource.version
                assert whose in self._may_be_told(resource, held)
            elif self.delta or self.url == CLUSTER:
                assert not has
        assert self.stream.in_step(self.snapshot)
        found = list(deliveries(self.stream, self.snapshot))
        assert all(each.status is ConfigStatus.SYNCED for each in found)

    def _may_be_told(self, resource: Resource, held: Held) -> set[Constraints | None]:
        """Return the constraints beside a name that a client may have been sent last.

        What it has from when it asked for that in another way is not sent to it again.
        """
        if held.is_earlier or not self.delta:
            return {None, resource.constraints}
        is_told = self.client.parameters(resource.name) is not None
        return {resource.constraints if is_told else None}

    def _wanted(self, name: str) -> Resource | None:
        content = self.snapshot.of_type(self.url)
        parameters = dict(self.client.parameters(name) or ())
        for each in content.variants.get(name, ()):
            if each.constraints is not None and each.constraints.matches(parameters):
                return each
        return content.resources.get(name)


class DeltaLocators(LocatorWalk):
    """A walk of a client of the incremental variant."""

    delta = True


class SotwLocators(LocatorWalk):
    """A walk of a client of the state-of-the-world variant."""

    delta = False


def test_delta_clients_have_one_variant_of_each_resource_and_it_is_their_own() -> None:
    """E3, C1, W9, R1: whatever they ask for with which parameters, and however it is divided."""
    run_state_machine_as_test(DeltaLocators, settings=WALK)


def test_sotw_clients_have_one_variant_of_each_resource_and_it_is_their_own() -> None:
    """E3, W2, W5, R3: whatever they ask for with which parameters, and however it is divided."""
    run_state_machine_as_test(SotwLocators, settings=WALK)
