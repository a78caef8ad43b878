"""An app of the test behind a real Envoy, configured by the project's builders over a fake ADS.

The rule of this module: the bytes that reach Envoy are exactly what the builders return.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from functools import partial

import grpc

from control_plane.envoy import clusters, listeners, rbac, secrets
from control_plane.envoy.bootstrap import DEFAULT_LIMITS, Limits
from control_plane.model.entities import AppProtocol, Source
from control_plane.names import Address, AppGuid
from tests.envoy import ads as xds
from tests.envoy import tls_client
from tests.envoy.apps import App
from tests.envoy.certificates import Authority
from tests.envoy.harness import C2C_PORT, Envoy, start_envoy, unique_address

HOST = "app-b.apps.internal"


@dataclass(frozen=True, slots=True)
class Served:
    """An app behind an Envoy; ``address`` is the instance's."""

    app: App
    protocol: AppProtocol
    address: str
    envoy: Envoy
    ads: xds.FakeAds
    authority: Authority

    @property
    def cluster(self) -> str:
        """The name of the app's cluster."""
        return clusters.service_cluster_name(self.app.port)

    @property
    def listener(self) -> str:
        """The name of the instance's listener."""
        return listeners.listener_name(self.app.port, C2C_PORT)

    async def put_cluster(self) -> None:
        """Send the cluster."""
        body = clusters.service_cluster(self.app.port, self.app.address, self.protocol)
        await self.ads.put(xds.CLUSTER, self.cluster, body)

    async def put_listener(self, sources: Iterable[str | Source] | None = None) -> None:
        """Send the listener, open to these sources; an address is that of an app of its own."""
        spec = listeners.ListenerSpec(self.app.port, C2C_PORT, self.protocol)
        apps = None if sources is None else [_app(each) for each in sources]
        body = listeners.tcp_listener(spec, self.address, sources=apps)
        await self.ads.put(xds.LISTENER, self.listener, body)

    async def put_filter(self, app: str, addresses: Iterable[str]) -> None:
        """Send the HTTP filter of an app, which allows requests from these addresses."""
        name = rbac.sources_filter_name(C2C_PORT, app)
        await self.ads.put(xds.EXTENSION_CONFIG, name, rbac.http_rbac(name, addresses))

    async def put_secret(self, *names: str) -> int:
        """Send a new certificate, and return its serial number."""
        pair = self.authority.issue(*(names or (HOST,)))
        body = secrets.tls_secret(secrets.C2C_SECRET, pair.chain, pair.key)
        await self.ads.put(xds.SECRET, secrets.C2C_SECRET, body)
        return pair.serial

    async def wait_active(self) -> None:
        """Return once the listener has its secret and takes connections."""
        await self.envoy.wait_for(
            lambda stats: stats.get("listener_manager.total_listeners_active") == 1,
            what="the listener is active",
            prefix="listener_manager",
        )

    def connect(
        self, *, source: str | None = None, alpn: tuple[str, ...] = ()
    ) -> contextlib.AbstractAsyncContextManager[tls_client.Connection]:
        """Connect as another container would, with full verification."""
        context = tls_client.context(self.authority.pem, alpn=alpn)
        return tls_client.connect(self.address, HOST, context, source=source)

    def channel(self) -> grpc.aio.Channel:
        """Return a gRPC channel to the app through its Envoy."""
        return grpc.aio.secure_channel(
            f"{self.address}:{C2C_PORT}",
            grpc.ssl_channel_credentials(self.authority.pem),
            options=[("grpc.ssl_target_name_override", HOST)],
        )


def _app(source: str | Source) -> Source:
    if isinstance(source, Source):
        return source
    return Source(AppGuid(source), (Address(source),))


@contextlib.asynccontextmanager
async def served(
    app: App,
    protocol: AppProtocol,
    *,
    sources: Iterable[str] | None = None,
    ready: bool = True,
    limits: Limits = DEFAULT_LIMITS,
) -> AsyncIterator[Served]:
    """Put an app behind an Envoy until the block ends.

    Args:
        app: the app.
        protocol: what it speaks.
        sources: who may connect, as for ``tcp_listener``.
        ready: send everything and wait until it is served; else Envoy knows nothing yet.
        limits: how much Envoy may hold.
    """
    async with contextlib.AsyncExitStack() as stack:
        ads = await stack.enter_async_context(xds.fake_ads())
        envoy = await stack.enter_async_context(start_envoy(partial(ads.bootstrap, limits=limits)))
        instance = Served(app, protocol, unique_address(), envoy, ads, Authority())
        if not ready:
            await envoy.wait_live()
        else:
            await instance.put_cluster()
            await instance.put_secret()
            if protocol is not AppProtocol.TCP:
                for source in sources or ():
                    await instance.put_filter(source, [source])
            await instance.put_listener(sources)
            await envoy.wait_live()
            await instance.wait_active()
        yield instance
