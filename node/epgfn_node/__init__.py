"""The node: trains on its own records, seals and signs the trained model, sends it once."""

from epgfn.base.systems import require_supported_system

require_supported_system()
