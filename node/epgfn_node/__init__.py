"""The node: trains on its own records, seals and signs the trained model, sends it once."""
