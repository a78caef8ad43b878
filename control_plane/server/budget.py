"""Whether an app's certificates still fit into a TLS handshake.

The rule of this module: the change that would make a certificate too large is refused, rather than
the certificate later. The size of an app's certificates depends on its routes, and hardly on how
many instances it has by now.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from control_plane.ca import Authority, Profile, size_problem
from control_plane.errors import FailedPrecondition
from control_plane.model.entities import App, Instance
from control_plane.model.state import State
from control_plane.names import Address, AppGuid, InstanceGuid, shown
from control_plane.planner import c2c_request

_LARGEST_ADDRESS = Address("2001:db8::1")
"""An IPv6 address takes more octets in a certificate than an IPv4 address."""

_LONGEST_GUID = InstanceGuid("0" * 63)

_HIGHEST_INDEX = 999
"""Per-index names grow with the index. If an app has more instances than this, its certificates are
checked again when the next instance registers."""


class CertificateBudget:
    """Compares the largest certificate that an app could need with what TLS clients accept."""

    def __init__(self, authorities: Callable[[], Iterable[Authority]], profile: Profile) -> None:
        """Take the bound from the profile.

        Args:
            authorities: returns the CAs with whose chains certificates may be sent from now on.
        """
        self._authorities = authorities
        self._profile = profile

    def check(self, state: State, app: AppGuid, *, field: str = "") -> None:
        """Check that every certificate that an app needs in this State can be served.

        Args:
            field: the field of the request that would make the certificates too large; "" if no
                field alone would.

        Raises:
            FailedPrecondition: TLS clients would refuse a certificate for its size.
        """
        known = state.apps[app]
        request = c2c_request(state, known, _largest_instance(state, known))
        for authority in self._authorities():
            problem = size_problem(authority, self._profile, request)
            if problem:
                raise FailedPrecondition(
                    f"with this the certificates of app {shown(known.key.name)} {problem}",
                    field=field,
                )


async def check_every_app(
    settled: Callable[[], Awaitable[State]], profile: Profile, authority: Authority
) -> None:
    """Check that every certificate that there is can be served with the chain of a CA.

    Args:
        settled: returns the State once all that was decided by now is in it.

    Raises:
        FailedPrecondition: TLS clients would refuse a certificate for its size.
    """
    budget = CertificateBudget(lambda: (authority,), profile)
    state = await settled()
    for app in state.apps:
        budget.check(state, app)


def _largest_instance(state: State, app: App) -> Instance:
    highest = max((each.index for each in state.instances_of(app.guid)), default=0)
    index = max(highest, _HIGHEST_INDEX)
    return Instance(_LONGEST_GUID, app.guid, index, _LARGEST_ADDRESS, _LARGEST_ADDRESS)
