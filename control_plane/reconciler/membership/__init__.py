"""Which instances are there, which are away, and which have left for good.

- ``presence`` keeps the ``status`` of each instance, from what its sidecar says and from whether
  its Envoy has what it needs for ``serving``. ``absences`` gives instances that are away time to
  come back.
- ``departures`` removes instances that left for good, ``tombstones`` remembers removed instances,
  and ``farewells`` tells them that they were removed.
"""
