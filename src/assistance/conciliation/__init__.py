"""Finds stragglers, deliveries that should have moved and did not, and re-arms them.

In comes the dead-man switch `check_at`, out goes a fresh hint; `timers` begins what was to begin by now. A crash or a
second run changes nothing.
"""
