"""Real Envoys with whatever identity a test gives them, and no sidecar.

The rule of this module: it does by hand what a sidecar does with files, and nothing more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from control_plane.envoy import bootstrap
from control_plane.store.files import write_private
from tests.envoy.harness import Envoy, start_envoy, until
from tests.security.holders import Holder
from tests.sidecar.platform import Platform

SERVER_URI = "spiffe://c2c.internal/control-plane"

TRIES = 3
"""So often an Envoy has come back after it was refused, before a test believes that it is."""


@dataclass(frozen=True, slots=True)
class Armed:
    """An Envoy, and the files by which it knows who it is."""

    envoy: Envoy
    identity_file: Path

    def take(self, holder: Holder) -> None:
        """Give it another identity: a new file, renamed into the place of the old one."""
        key = holder.key.private_pem().decode()
        text = bootstrap.identity_file(holder.chain.decode(), key)
        write_private(self.identity_file, text.encode())

    async def is_turned_away(self) -> None:
        """Wait until it was refused again and again; it must have got nothing by then."""

        def has_tried(stats: Mapping[str, int]) -> bool:
            failed = stats.get("cluster.control-plane.ssl.fail_verify_error", 0)
            failed += stats.get("cluster.control-plane.upstream_cx_connect_fail", 0)
            failed += stats.get("cluster.control-plane.upstream_cx_destroy", 0)
            return failed >= TRIES

        stats = await self.envoy.wait_for(has_tried, what="Envoy was refused and came back")
        assert not stats.get("cluster_manager.cds.update_success")
        assert not stats.get("listener_manager.lds.update_success")
        assert not stats.get("listener_manager.total_listeners_active")

    async def has_lost_everything(self) -> None:
        """Wait until it has no listener and no cluster but the one to the control plane.

        A listener that is not active any more drains, and its workers have yet to close its port.
        """

        def has_nothing(stats: Mapping[str, int]) -> bool:
            states = [f"listener_manager.total_listeners_{each}" for each in ("active", "draining")]
            found = [stats.get(each) for each in (*states, "cluster_manager.active_clusters")]
            return found == [0, 0, 1]

        await self.envoy.wait_for(has_nothing, what="neither listener nor cluster is left")

    async def comes_back(self) -> None:
        """Wait until it has tried to come back, twice."""
        name = "cluster.control-plane.upstream_cx_total"
        before = await self.envoy.stat(name)

        async def probe() -> bool:
            return await self.envoy.stat(name) >= before + 2

        await until(probe, what="Envoy tried to come back")


@asynccontextmanager
async def envoy_of(
    cf: Platform,
    holder: Holder,
    directory: Path,
    ads: bootstrap.AdsVariant = bootstrap.AdsVariant.DELTA,
) -> AsyncIterator[Armed]:
    """Run an Envoy with this identity until the block ends."""
    directory.mkdir(exist_ok=True)
    trust = directory / "trust.json"
    write_private(trust, bootstrap.trust_file(holder.roots.decode()).encode())
    identity = directory / "identity.json"
    address = cf.running.xds_address

    def render(admin_socket: Path) -> str:
        return bootstrap.render(
            holder.guid,
            xds_address=address.host,
            xds_port=address.port,
            admin_socket=admin_socket,
            tls=bootstrap.XdsIdentity(identity, trust, SERVER_URI) if holder.chain else None,
            ads=ads,
        )

    if holder.chain:
        chain, key = holder.chain.decode(), holder.key.private_pem().decode()
        write_private(identity, bootstrap.identity_file(chain, key).encode())
    async with start_envoy(render) as envoy:
        yield Armed(envoy, identity)
