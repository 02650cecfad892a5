"""The coordinator: enrols nodes, verifies and keeps what they send, trains the global model, publishes it signed."""
