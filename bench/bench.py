"""What rows share: the stand, how long to measure, who takes part, and what was found so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.measuring import Result
from bench.stand import Stand
from bench.ways import Way


@dataclass(kw_only=True, slots=True)
class Bench:
    """One run. `results` are by title, in the order in which they were measured."""

    stand: Stand
    seconds: float
    rounds: int
    peers: Sequence[Way]
    results: dict[str, Result] = field(default_factory=dict)
