"""The gRPC servers: discovery services, the c2c.v1 API, reflection and health."""
