"""Publish due outbox rows to the broker."""

from assistance.cli import run

run("relay")
