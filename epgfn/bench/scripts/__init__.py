"""Scripts behind single figures in docs/: python -m epgfn.bench.scripts.NAME."""
