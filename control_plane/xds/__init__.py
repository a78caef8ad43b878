"""The xDS transport protocol with no I/O: what a server owes its clients, as values and plain objects."""
