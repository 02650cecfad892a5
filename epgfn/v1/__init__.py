"""Generated stubs of proto/epgfn/v1. Do not edit: run `make stubs`."""
