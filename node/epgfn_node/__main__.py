"""`python -m epgfn_node` is the command `epgfn-node`."""

from epgfn_node.cli import main

if __name__ == "__main__":
    main()
