"""How a server begins to listen: whole or not at all.

The rule of this module: a start is not to be interrupted. Whoever waits for it and no longer wants
to waits until it is over, and then stops it.
"""

from __future__ import annotations

import asyncio

import grpc


async def start(server: grpc.aio.Server) -> None:
    """Start a server; one whose start is cancelled is stopped.

    What grpc.aio starts is a task of its own. It tells a future that it runs, and if that future is
    cancelled by then, it dies of it where nobody can catch it (grpcio 1.85, `_server_main_loop`).
    """
    starting = asyncio.ensure_future(server.start())
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait([starting])
        await server.stop(None)
        raise
