"""What clients see of an Envoy that its sidecar sends into its end."""

from __future__ import annotations

import asyncio

from control_plane.model.entities import AppProtocol
from control_plane.sidecar.processes.envoy_admin import EnvoyAdmin
from tests.envoy import apps, tls_client
from tests.envoy.harness import C2C_PORT, admin_socket, until
from tests.envoy.served import HOST, served


async def test_who_comes_too_late_is_refused_and_who_is_there_is_served() -> None:
    """Also who has not shaken hands yet: only its connection is there by then."""
    async with (
        apps.tcp_app(apps.http1()) as app,
        served(app, AppProtocol.HTTP1) as instance,
        instance.connect() as one,
    ):
        assert (await one.request()).status == 200
        reader, writer = await asyncio.open_connection(instance.address, C2C_PORT)
        accepted = f"listener.{instance.address}_{C2C_PORT}.downstream_cx_active"
        await instance.envoy.wait_for(
            lambda stats: stats.get(accepted) == 2, what="both are accepted", prefix="listener"
        )

        admin = EnvoyAdmin(admin_socket(instance.envoy.directory))
        await admin.drain()
        await admin.refuse()

        async def is_refused() -> bool:
            try:
                _, late = await asyncio.open_connection(instance.address, C2C_PORT)
            except ConnectionRefusedError:
                return True
            late.close()
            return False

        await until(is_refused, what="a new connection is refused")
        await writer.start_tls(tls_client.context(instance.authority.pem), server_hostname=HOST)
        two = tls_client.Connection(reader, writer)
        for each in (one, two):
            assert (await each.request()).status == 200
        await two.close()
