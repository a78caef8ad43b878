"""The sidecar's DNS server: it answers internal names from a table and forwards all other names."""

from control_plane.sidecar.dns.service import DnsService, check_dns

__all__ = ["DnsService", "check_dns"]
