"""``c2c demo``: the whole story on one machine, told by what really happens."""

from __future__ import annotations

import asyncio


def run(*, keep: bool) -> int:
    """Tell the story; return 0 if every claim of it held.

    Args:
        keep: leave everything running afterwards, and print commands to try.
    """
    # Importing the package has no effect and costs nothing: Envoy and gRPC are behind this import.
    from control_plane.demo.story import tell  # noqa: PLC0415 - see above

    return asyncio.run(tell(keep=keep))
