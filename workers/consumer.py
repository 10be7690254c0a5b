"""Deliver what the queues hold: `consumer.py [CHANNEL…]`."""

from assistance.cli import run

run("consumer")
