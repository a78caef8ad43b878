"""Messages and services of the proto package c2c.v1."""
