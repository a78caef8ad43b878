"""The discovery services over gRPC: each call is a stream of the protocol machines."""
