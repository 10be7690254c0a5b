"""Moves due outbox rows to the broker. The relay touches no table but the outbox.

In comes a due row, out goes a confirmed message and no row. A crash in between leaves the row, and at worst a second
message, which the consumer's claim makes harmless.
"""
