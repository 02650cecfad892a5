"""`epgfn bench`: how accurate and how fast the GFlowNet core is, on instances whose exact answer is known."""
