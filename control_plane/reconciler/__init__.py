"""The loop that brings every connected node to its plan, and tells which nodes have reached it.

- ``reconciler`` is the loop. Instances that a change concerns wait in the ``backlog``. Each plan is
  made from the State, from what is ``draining``, and from what the packages ``certificates`` and
  ``publication`` know.
- ``connected`` says which instances have a stream, ``standing`` how far each of them is.
  ``convergence`` waits until a change has reached all instances, and answers in the terms of
  ``progress``; ``changes`` follows every change.
- The package ``membership`` says which instances are there, and ``served`` proves that what was
  ACKed is served.
- ``pace`` spreads what has to happen to all instances, and ``tasks`` holds work that goes on beside
  the loop.
"""
