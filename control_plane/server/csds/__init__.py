"""The client status discovery service (CSDS)."""
