"""Carries hints from the relay to the consumers; what may be relied on is in `contract`."""
