"""The operator's decisions that show in plans."""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.names import Domain


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What all plans of a control plane have in common.

    Attributes:
        internal_domains: the domains whose names are answered from the name table.
        router_ca_pem: CAs whose clients may connect to ports 61001 and up; b"" if there are no
            routers, so policies open these ports like any other.
        router_sans: DNS names of which such a client has to show one; empty if any client of these
            CAs will do.
        unproxied: whether the apps' own ports can also be reached, without TLS.
        probers: addresses from which the control plane checks which certificate is served.
    """

    internal_domains: tuple[Domain, ...] = (Domain("apps.internal"),)
    router_ca_pem: bytes = b""
    router_sans: tuple[str, ...] = ()
    unproxied: bool = False
    probers: tuple[str, ...] = ()
