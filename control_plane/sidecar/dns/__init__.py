"""The DNS server in an instance's sidecar: internal names from a table, all others passed on."""

from control_plane.sidecar.dns.service import DnsService, check_dns

__all__ = ["DnsService", "check_dns"]
