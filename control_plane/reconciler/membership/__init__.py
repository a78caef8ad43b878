"""Who is there, who is away, and who has left for good.

- ``presence`` keeps the ``status`` of each instance, by what its sidecar says and by whether its
  Envoy has what it needs for ``serving``; ``absences`` gives those that are away time to come back.
- ``departures`` removes those that left for good, ``tombstones`` remembers those that were removed,
  and ``farewells`` tells them.
"""
