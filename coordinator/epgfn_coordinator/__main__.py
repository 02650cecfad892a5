"""`python -m epgfn_coordinator` is `epgfn-coordinator`."""

from epgfn_coordinator.cli import main

main()
