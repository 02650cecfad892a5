"""The artifact: model file, chunked encryption, HPKE, signed statement. It knows nothing of GFlowNets."""
