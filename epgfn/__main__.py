"""`python -m epgfn` is the command `epgfn`."""

from epgfn.cli.main import main

if __name__ == "__main__":
    main()
