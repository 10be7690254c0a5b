"""How long people waited, as counts: how many deliveries took less than each of some bounds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

#: Seconds. A count stands for each: how many took less than it, and no less than the one before. One more stands for
#: those that took as long as the last or longer.
BOUNDS = (
    *(0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 45.0),
    *(60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 86400.0),
)

#: The shares that people ask for, by the names that they have.
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def quantile(counts: Sequence[int], share: float) -> float | None:
    """The seconds within which this share (0 to 1) of what was counted came; none when nothing was.

    Between two bounds a straight line is drawn; of what lies behind the last bound nothing more is known than that.
    """
    total = sum(counts)
    if not total:
        return None
    wanted = share * total
    for place, so_far in enumerate(accumulate(counts)):
        if so_far >= wanted and counts[place]:
            if place == len(BOUNDS):
                break
            below = BOUNDS[place - 1] if place else 0.0
            part = (wanted - (so_far - counts[place])) / counts[place]
            return below + (BOUNDS[place] - below) * part
    return BOUNDS[-1]
