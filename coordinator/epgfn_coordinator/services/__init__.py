"""One file a gRPC service; each only translates between messages and the modules above it."""
