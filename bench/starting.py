"""How soon a command answers, and how soon the API does."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench.bench import Bench
from bench.measuring import OURS, Case, Row, Sample, Target
from bench.stand import Stand


@contextmanager
def row(bench: Bench) -> Iterator[Row]:
    """From nothing, with warm disks."""
    yield Row(
        title="Start",
        note="`assistance --help` until its end, and `assistance api` until `/readyz` answers 200. Files are in memory "
        "already.",
        cases=[Case(name=OURS, measure=partial(_start, bench.stand))],
        targets=[
            Target(figure="help ms", limit=100, is_most=True, unit=" ms"),
            Target(figure="api ready s", limit=1.5, is_most=True, unit=" s"),
        ],
    )


def _start(stand: Stand) -> Sample:
    program = Path(sys.executable).with_name("assistance")
    began = time.monotonic()
    subprocess.run([program, "--help"], check=True, capture_output=True)
    helped = time.monotonic() - began
    with stand.servers() as servers:
        began = time.monotonic()
        servers.ours("api").wait_for("/readyz")
        ready = time.monotonic() - began
    return Sample(figures={"help ms": helped * 1000, "api ready s": ready})
