"""The services that sidecars call: enrolment, renewal, reports."""
