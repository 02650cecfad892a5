"""Other libraries on the same task, run by their own Python; nothing here imports epgfn, and epgfn imports only `blocks`."""
