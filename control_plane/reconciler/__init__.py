"""The loop that brings every connected node to its plan, and tells who is there already.

- ``reconciler`` is the loop. Instances that a change concerns wait in the ``backlog``; each plan is
  made from the State, from what is ``draining``, and from what the packages ``certificates`` and
  ``publication`` know.
- ``connected`` says which instances have a stream, ``standing`` how far each of them is.
  ``convergence`` waits until a change has reached everybody, in the words of ``progress``;
  ``changes`` follows every change.
- The package ``membership`` says who is there, and ``served`` proves that what was ACKed is served.
- ``pace`` spreads what has to happen to all, and ``tasks`` holds work that goes on beside the loop.
"""
