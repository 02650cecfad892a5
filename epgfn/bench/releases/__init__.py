"""What `epgfn bench privacy` measures: simulated worlds, a release of their records, and how far it moves the posterior."""
