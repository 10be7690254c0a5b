"""The last chart of the overview: in which state each channel was, as bands that need no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from assistance.console.words import span
from assistance.history.reading import Charts, Point

_MOST_NAMED = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """A channel was in one state from `begins` on, for `length` spans; none: nothing is known."""

    first: int
    length: int
    state: str | None
    begins: datetime
    ends: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """The states of channels over the time: `spans` is how many spans wide it is."""

    spans: int
    channels: Mapping[str, Sequence[Stretch]]
    summary: str


def strip_of(found: Charts, channel: str | None) -> Strip:
    """When which channel was out."""
    wanted = {name: points for name, points in found.channels.items() if channel in (None, name)}
    channels = {name: _stretches(found, points) for name, points in sorted(wanted.items())}
    out = [
        f"{name} {stretch.state.replace('_', '-')} {span((stretch.ends - stretch.begins).total_seconds())}"
        for name, stretches in channels.items()
        for stretch in reversed(stretches)
        if stretch.state not in (None, "closed")
    ]
    more = f", and {len(out) - _MOST_NAMED} more times" if len(out) > _MOST_NAMED else ""
    summary = f"Out: {', '.join(out[:_MOST_NAMED])}{more}." if out else "No channel was out."
    return Strip(spans=len(found.begins), channels=channels, summary=summary)


def _stretches(found: Charts, points: Sequence[Point | None]) -> list[Stretch]:
    """Neighbouring spans in the same state as one stretch."""
    stretches: list[Stretch] = []
    ends = [*found.begins[1:], found.window.until]
    for place, point in enumerate(points):
        state = None if point is None else point.breaker
        if stretches and stretches[-1].state == state:
            last = stretches[-1]
            stretches[-1] = Stretch(
                first=last.first, length=last.length + 1, state=state, begins=last.begins, ends=ends[place]
            )
        else:
            stretches.append(Stretch(first=place, length=1, state=state, begins=found.begins[place], ends=ends[place]))
    return stretches
