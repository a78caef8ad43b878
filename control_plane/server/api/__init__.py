"""The services of c2c.v1, one module each."""
