"""The xDS transport protocol with no I/O: what a server owes its clients, in plain objects.

The rule of this package: a request goes in, events and responses come out, and the time is an
argument. Nothing here waits or logs, or knows of gRPC or of any Envoy message.

In the order in which to read it:

- What there is to send: ``resource`` (content and its version), ``snapshot`` (what one node should
  have), ``resource_type`` (what differs from type to type).
- What is said: ``messages`` (requests and responses), ``events`` (what a request told).
- One type on one stream: ``sotw`` and ``delta`` keep the rules of the protocol. Each has a
  ``subscription`` (what the client asks for) and an ``exchange`` (what it has, and the response in
  flight). ``unsettled`` says which names to look at, ``refusal`` what was NACKed. What a response
  has is worked out by ``complete`` or ``partial``, as an ``offer``; for delta by ``incremental``,
  for which ``meaning`` knows what the names of a client stand for.
- One stream: ``stream`` has a machine for each type that the client asks for, within ``limits``.
  ``ordering`` (with ``wait``) and ``withdrawal`` see to it that make comes before break.
- What only some clients ask for: ``heartbeat`` (TTLs), ``xdstp`` (structured names, collections),
  ``constraints``, ``locators``, ``variants`` and ``translation`` (dynamic parameters),
  ``resource_error`` (why something is not sent), ``polled`` (no stream at all).
- For whoever looks on: ``delivery`` (each resource), ``type_status`` (each type).
"""
