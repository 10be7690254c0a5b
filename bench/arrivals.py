"""What the sink has received, and waiting for it."""

from __future__ import annotations

import math
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.stand import Server

_STUCK_SECONDS = 60.0


def arrivals(sink: Server) -> dict[int, float]:
    """When each call arrived for the first time, by its number."""
    found: dict[int, float] = {}
    for line in _call(sink, "GET", "/arrivals").splitlines():
        number, moment = line.split()
        found.setdefault(int(number), float(moment))
    return found


def took_ms(sink: Server, times: Path) -> list[float]:
    """How long each call was on its way to the sink, in milliseconds, the quickest first; `times` is of the load."""
    begun = (line.split() for line in times.read_text().splitlines())
    told = arrivals(sink)
    return sorted((told[int(number)] - float(moment)) * 1000 for number, moment in begun if int(number) in told)


def percentile(values: Sequence[float], share: float) -> float:
    """Of sorted values: that which the share of them does not exceed."""
    return values[max(0, math.ceil(len(values) * share) - 1)]


def arrived(sink: Server) -> int:
    """How many webhooks came."""
    return int(_call(sink, "GET", "/count"))


def forget(sink: Server) -> None:
    """Begin anew."""
    _call(sink, "DELETE", "/arrivals")


def wait_until_none(count: Callable[[], int], what: str, *, every: float = 0.1) -> None:
    """Until there are none left, looking `every` so many seconds: a look costs something that is measured too.

    Raises `AssertionError` when nothing moves for a minute.
    """
    seen, moved = -1, time.monotonic()
    while left := count():
        if left != seen:
            seen, moved = left, time.monotonic()
        if time.monotonic() - moved > _STUCK_SECONDS:
            raise AssertionError(f"{left:,} {what}, and nothing moves")
        time.sleep(every)


def _call(sink: Server, method: str, path: str) -> bytes:
    call = urllib.request.Request(f"http://127.0.0.1:{sink.port}{path}", method=method)
    with urllib.request.urlopen(call, timeout=30) as answer:
        content: bytes = answer.read()
    return content
