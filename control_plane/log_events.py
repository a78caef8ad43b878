"""The one list of the events that the log can have, by name.

The rule of this module: an event is a fact that is over, named ``subject.past_participle``. Its
name never changes with the data, which goes into fields. So one name finds every such fact, and
readers of a log can look up here what may be in it. Fields that several events share have one name:
``app`` and ``instance`` are GUIDs, ``type_url``, ``version`` and ``nonce`` are those of xDS,
``revision`` is that of the State, ``peer`` is the other end's address, ``reason`` says why.
"""

from __future__ import annotations

AUDIT_LOGGER = "control_plane.audit"
"""The logger for who did what, and who was refused: ``structlog.get_logger(AUDIT_LOGGER)``."""

JOIN_TOKEN_PREFIX = "c2cjt_"  # noqa: S105 - what tokens begin with, so that the log can spot one
"""How every join token begins. A text that contains it is never logged, even if it is a name that
somebody chose: no reader of a log can tell such a name from a token, and a logged token can be
used."""

# The server.
SERVER_STARTED = "server.started"
SERVER_STOPPING = "server.stopping"
SERVER_STOPPED = "server.stopped"
TASK_DIED = "task.died"
SETTING_WARNED = "setting.warned"
CALL_FAILED = "call.failed"
SERVER_CERTIFICATE_RENEWED = "server_certificate.renewed"
CA_CREATED = "ca.created"
CA_LOADED = "ca.loaded"
CA_OTHERS_SIGNED = "ca.others_signed"
CA_PREPARED = "ca.prepared"
CA_PREPARE_UNDONE = "ca.prepare_undone"
CA_ACTIVATED = "ca.activated"
CA_ACTIVATE_UNDONE = "ca.activate_undone"
CA_RETIRED = "ca.retired"
STORE_FAILED = "store.failed"
EVENT_LOOP_LAGGED = "event_loop.lagged"
CLOCK_SET = "clock.set"

# Commands that changed the State.
APP_CREATED = "app.created"
APP_UPDATED = "app.updated"
APP_DELETED = "app.deleted"
ROUTE_MAPPED = "route.mapped"
ROUTE_UNMAPPED = "route.unmapped"
POLICY_ADDED = "policy.added"
POLICY_REMOVED = "policy.removed"
INSTANCE_REGISTERED = "instance.registered"
INSTANCE_MOVED = "instance.moved"
INSTANCE_REMOVED = "instance.removed"
CHANGE_ACKED = "change.acked"
CHANGE_SERVED = "change.served"

# Certificates.
CERTIFICATE_ISSUED = "certificate.issued"
CERTIFICATE_FAILED = "certificate.failed"
ISSUER_FAILED = "issuer.failed"
CERTIFICATE_SERVED = "certificate.served"
CERTIFICATE_NOT_SERVED = "certificate.not_served"
EXPIRY_ALARMED = "expiry.alarmed"
EXPIRY_CLEARED = "expiry.cleared"

# The xDS streams.
STREAM_OPENED = "stream.opened"
STREAM_CLOSED = "stream.closed"
STREAM_REFUSED = "stream.refused"
STREAM_FAILED = "stream.failed"
STREAMS_DRAINED = "streams.drained"
XDS_SENT = "xds.sent"
XDS_ACKED = "xds.acked"
XDS_NACKED = "xds.nacked"
XDS_STALE = "xds.stale"

# Plans, readiness and names.
PLAN_FAILED = "plan.failed"
INSTANCE_CONNECTED = "instance.connected"
INSTANCE_GONE = "instance.gone"
INSTANCE_READY = "instance.ready"
FLEET_UNHEARD = "fleet.unheard"
FLEET_HEARD = "fleet.heard"
NAME_PUBLISHED = "name.published"
NAME_WITHDRAWN = "name.withdrawn"

# The sidecar.
SIDECAR_STOPPING = "sidecar.stopping"
SIDECAR_RETRYING = "sidecar.retrying"
SIDECAR_ENROLLED = "sidecar.enrolled"
SIDECAR_SERVICE_FAILED = "sidecar.service_failed"
IDENTITY_NOT_DURABLE = "identity.not_durable"
IDENTITY_PASSED_OVER = "identity.passed_over"
IDENTITY_RENEWED = "identity.renewed"
IDENTITY_RENEWAL_FAILED = "identity.renewal_failed"
TRUST_REPLACED = "trust.replaced"
TRUST_EXPORTED = "trust.exported"
TRUST_NOT_EXPORTED = "trust.not_exported"
REPORT_ACCEPTED = "report.accepted"
REPORT_FAILED = "report.failed"
ENVOY_STARTED = "envoy.started"
ENVOY_LOGGED = "envoy.logged"
ENVOY_DRAINED = "envoy.drained"
ENVOY_EXITED = "envoy.exited"
APP_STARTED = "app.started"
APP_PORTS_LEARNED = "app.ports_learned"
APP_LISTENING = "app.listening"
APP_AWAITED = "app.awaited"
APP_NOT_NOTED = "app.not_noted"
APP_LEFT_OVER = "app.left_over"
APP_EXITED = "app.exited"
APP_EXPOSED = "app.exposed"

# The sidecar's DNS server.
DNS_STARTED = "dns.started"
DNS_EXPOSED = "dns.exposed"
NAME_TABLE_APPLIED = "name_table.applied"
NAME_TABLE_REFUSED = "name_table.refused"
NAME_TABLE_LOADED = "name_table.loaded"
NAME_TABLE_LOST = "name_table.lost"
NAME_TABLE_UNSAVED = "name_table.unsaved"
UPSTREAMS_READ = "upstreams.read"
UPSTREAMS_CROWDED = "upstreams.crowded"
UPSTREAMS_LOST = "upstreams.lost"
UPSTREAMS_RECOVERED = "upstreams.recovered"
UPSTREAM_SKIPPED = "upstream.skipped"

# For AUDIT_LOGGER: who did what, and who was refused.
AUDIT_COMMAND = "audit.command"
AUDIT_ENROLLED = "audit.enrolled"
AUDIT_ENROLLMENT_REFUSED = "audit.enrollment_refused"
AUDIT_ENROLLMENTS_LIMITED = "audit.enrollments_limited"
AUDIT_IDENTITY_RENEWED = "audit.identity_renewed"
AUDIT_RENEWAL_REFUSED = "audit.renewal_refused"
AUDIT_RENEWALS_LIMITED = "audit.renewals_limited"
AUDIT_OPERATOR_CERT_ISSUED = "audit.operator_cert_issued"
AUDIT_OPERATOR_CERT_REVOKED = "audit.operator_cert_revoked"
AUDIT_ACCESS_DENIED = "audit.access_denied"
AUDIT_ACCESSES_LIMITED = "audit.accesses_limited"
AUDIT_NAME_DENIED = "audit.name_denied"
AUDIT_NAMES_LIMITED = "audit.names_limited"
AUDIT_NODE_REFUSED = "audit.node_refused"
AUDIT_NODES_LIMITED = "audit.nodes_limited"
AUDIT_CERTIFICATES_LIMITED = "audit.certificates_limited"
AUDIT_NACKS_LIMITED = "audit.nacks_limited"
AUDIT_STREAMS_LIMITED = "audit.streams_limited"
