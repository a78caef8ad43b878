"""The DNS server in an instance's sidecar: internal names from a table, all others passed on."""
