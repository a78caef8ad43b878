"""The pure model of apps, instances, internal routes and network policies.

- ``state`` has all that was committed: the ``entities``, with indexes made of ``sorted_lists``.
- Commands are functions from a State to a Decision (``change``): ``apps`` (as a ``spec`` says),
  ``instances``, ``routes``, ``policies``, ``tokens``. To any of them ``tombstones`` and
  ``draining`` add what follows from it.
- ``reach`` says whom a change concerns, ``ports`` which port leads where, ``nearest`` what a wrong
  name may have meant.
"""
