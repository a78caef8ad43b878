"""The pure model of apps, instances, internal routes and network policies.

- ``state`` has everything that was committed: the ``entities``, with indexes made of
  ``sorted_lists``.
- Commands are functions from a State to a Decision (``change``): ``apps`` (with a ``spec``),
  ``instances``, ``routes``, ``policies``, ``tokens``, ``operators``. To the Decision of any
  command, ``tombstones`` and ``draining`` add what follows from it.
- ``reach`` tells which apps a change concerns, ``ports`` which port leads where, and ``nearest``
  what a wrong name may have meant.
"""
