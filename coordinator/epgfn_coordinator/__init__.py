"""The coordinator: enrols nodes, verifies and keeps what they send, trains the global model, publishes it signed."""

from epgfn.base.systems import require_supported_system

require_supported_system()
