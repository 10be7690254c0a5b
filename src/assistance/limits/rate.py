"""The arithmetic of a rate: pure, with time in seconds.

A client's calls are spread on a line, each taking a minute divided by its quota. How far that line reaches into the
future is its *debt*; a call fits while the debt stays below a minute. A client that was quiet may therefore use a whole
quota at once, after that calls fit as time passes (the generic cell rate algorithm, GCRA).

The line is shared by all processes, so each takes a *share* of several calls at a time, a twentieth of the quota, which
is void after as long as its calls take on the line. What is unused then is given back with the next share: the line
counts the calls that were made, however many processes a client's calls are spread over.
"""

from __future__ import annotations

from dataclasses import dataclass

WINDOW_SECONDS = 60.0
_SHARES_IN_A_WINDOW = 20
#: Sums of fractions may fall short of the whole by the last digit.
_ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """Calls that were taken from the line; `debt` is how far it reached then, `quota` how many calls a minute has."""

    quota: int
    calls: int
    debt: float

    @property
    def valid_seconds(self) -> float:
        """How long its calls may be used."""
        return self.calls * WINDOW_SECONDS / self.quota


def take_share(quota: int, debt: float, unused: int) -> Share:
    """The next share of a client with `quota` calls a minute, for `unused` calls of the last; empty when none fits."""
    interval = WINDOW_SECONDS / quota
    debt = max(0.0, debt - unused * interval)
    calls = max(0, min(max(1, quota // _SHARES_IN_A_WINDOW), fitting(quota, debt)))
    return Share(quota=quota, calls=calls, debt=debt + calls * interval)


def fitting(quota: int, debt: float) -> int:
    """How many calls fit on the line."""
    return max(0, int((WINDOW_SECONDS - debt) * quota / WINDOW_SECONDS + _ROUNDING))


def until_one_fits(quota: int, debt: float) -> float:
    """Seconds until a call fits."""
    return max(0.0, debt + WINDOW_SECONDS / quota - WINDOW_SECONDS)
