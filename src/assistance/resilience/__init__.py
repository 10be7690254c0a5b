"""Pure cores that decide when to try again; no I/O, time comes in as an argument."""
