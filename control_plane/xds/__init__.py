"""The xDS transport protocol with no I/O: what a server owes its clients, in plain objects."""
