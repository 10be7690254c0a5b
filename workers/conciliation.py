"""Re-arm stragglers, drain the dead letter queue; `--once` for one round."""

from assistance.cli import run

run("conciliation")
