"""The xDS transport protocol with no I/O: what a server owes its clients, in plain objects.

The rule of this package: a request goes in, events and responses come out, and the time is an
argument. Nothing here waits or logs, or knows of gRPC or of any Envoy message.

The modules, in the order in which to read them:

- What there is to send: ``resource`` (content and its version), ``snapshot`` (what one node should
  have), ``resource_type`` (what differs from type to type).
- What client and server say: ``messages`` (requests and responses), ``events`` (what a request
  told).
- One type on one stream: ``sotw`` and ``delta`` keep the rules of the protocol. Each has a
  ``subscription`` (what the client asks for) and an ``exchange`` (what the client has, and the
  response in flight). ``unsettled`` has the names to examine, and ``refusal`` what was NACKed.
  ``complete`` or ``partial`` works out the content of a SotW response, as an ``offer``. For delta,
  ``incremental`` does so; ``meaning`` tells it which resources the client means by its names.
- One stream: ``stream`` has a machine for each type that the client asks for, within ``limits``.
  ``ordering`` (with ``wait``) and ``withdrawal`` make sure that make comes before break.
- What only some clients use: ``heartbeat`` (TTLs), ``xdstp`` (structured names, collections),
  ``constraints``, ``locators``, ``variants`` and ``translation`` (dynamic parameters),
  ``resource_error`` (why a resource is not sent), ``polled`` (requests without a stream).
- For observers: ``delivery`` (how far each resource is), ``type_status`` (how far each type is).
"""
