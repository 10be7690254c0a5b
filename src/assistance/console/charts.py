"""The charts of the overview: what is drawn, what it says in a sentence, and the same numbers as a table.

The history gives the points. Everything is here before the script draws it: without one, the tables are what is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from markupsafe import Markup

from assistance.console.words import absolute, number, span
from assistance.history.reading import Charts, Point, total

Values = Sequence[float | None]

#: What an area is drawn for by itself; the rest is one area together.
_MOST_AREAS = 6
_OUTCOMES = (
    ("delivered", "delivered", "good"),
    ("retry_later", "to be retried", "warn"),
    ("throttled", "throttled", "c"),
    ("timeout", "timed out", "d"),
    ("unknown", "unknown", "e"),
    ("rejected", "rejected", "bad"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One line, or one layer of what is stacked; `draw` is line, bar or area, `look` a colour of the style sheet."""

    label: str
    values: Values
    look: str
    draw: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """One chart. `unit` is `number` or `seconds`; `second` is the unit of lines with an axis of their own."""

    name: str
    title: str
    summary: str
    begins: Sequence[datetime]
    series: Sequence[Series]
    unit: str = "number"
    is_log: bool = False
    right: str | None = None  # the label of the series that has the axis on the right

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw at all."""
        return all(value is None for series in self.series for value in series.values)

    @property
    def data(self) -> Mapping[str, Any]:
        """What the script draws from; JSON values only."""
        return {
            "title": self.title,
            "unit": self.unit,
            "log": self.is_log,
            "right": self.right,
            "x": [round(at.timestamp()) for at in self.begins],
            "series": [
                {"label": one.label, "look": one.look, "draw": one.draw, "values": list(one.values)}
                for one in self.series
            ],
        }

    @property
    def rows(self) -> Markup:
        """The rows of the table, the newest first; spans of which nothing is known are left out.

        They are thousands on a page, and hold nothing but numbers and instants: a template would take most of the
        page's time for them.
        """
        shown = [
            [_shown(value, "number" if one.label == self.right else self.unit) for value in one.values]
            for one in self.series
        ]
        rows = []
        for place in range(len(self.begins) - 1, -1, -1):
            if any(one.values[place] is not None for one in self.series):
                cells = "".join(f'<td class="number">{column[place]}</td>' for column in shown)
                rows.append(f'<tr><th scope="row">{absolute(self.begins[place])}</th>{cells}</tr>')
        return Markup("\n".join(rows))  # noqa: S704 (see above)


def charts_of(found: Charts, channel: str | None) -> list[Chart]:
    """The charts of the whole, or where they know it of one channel."""
    points: Sequence[Point | None] = found.whole
    if channel is not None:
        quiet = [None if point is None else Point(begins_at=point.begins_at) for point in found.whole]
        points = found.channels.get(channel, quiet)
    return [
        _flow(found, points),
        _waiting(found, points),
        _outbox(found),
        _backlog(found) if channel is None else _backlog_of_one(found, points),
        _attempts(found, points),
    ]


def per(found: Charts) -> str:
    """The length of a span of these charts, to stand behind "per"."""
    words = {60: "minute", 600: "10 minutes", 3600: "hour", 21_600: "6 hours"}
    return words.get(found.window.span_seconds, span(found.window.span_seconds))


def _flow(found: Charts, points: Sequence[Point | None]) -> Chart:
    series = [
        Series(label="delivered", values=_each(points, lambda p: p.delivered), look="good", draw="bar"),
        Series(label="dead", values=_each(points, lambda p: p.dead), look="bad", draw="bar"),
        Series(label="accepted", values=_each(points, lambda p: p.accepted), look="ink", draw="line"),
    ]
    all_of_it = total(points, found.window.since)
    return Chart(
        name="flow",
        title=f"Accepted, delivered, dead per {per(found)}",
        summary=f"{number(all_of_it.accepted)} accepted, {number(all_of_it.delivered)} delivered,"
        f" {number(all_of_it.dead)} dead letters.",
        begins=found.begins,
        series=series,
    )


def _waiting(found: Charts, points: Sequence[Point | None]) -> Chart:
    shares = ((0.5, "p50", "good"), (0.95, "p95", "warn"), (0.99, "p99", "bad"))
    all_of_it = total(points, found.window.since)
    within = [all_of_it.within_seconds(share) for share, _, _ in shares]
    summary = "Nothing was delivered."
    if None not in within:
        half, most, nearly_all = map(_seconds, within)
        summary = f"Half were delivered within {half}, 95 % within {most}, 99 % within {nearly_all}."
    return Chart(
        name="waiting",
        title="From accepted to delivered",
        summary=summary,
        begins=found.begins,
        unit="seconds",
        is_log=True,
        series=[
            Series(label=label, values=_each(points, _quantile(share)), look=look, draw="line")
            for share, label, look in shares
        ],
    )


def _outbox(found: Charts) -> Chart:
    ages = _each(found.whole, lambda p: p.outbox_oldest_seconds)
    counts = _each(found.whole, lambda p: p.outbox)
    return Chart(
        name="outbox",
        title="Not yet published",
        summary=f"At worst {number(_most(counts))} hints waited, the oldest for {_seconds(_most(ages))}.",
        begins=found.begins,
        unit="seconds",
        right="hints",
        series=[
            Series(label="age of the oldest", values=ages, look="a", draw="area"),
            Series(label="hints", values=counts, look="ink", draw="line"),
        ],
    )


def _backlog(found: Charts) -> Chart:
    by_channel = {name: _stood(found, _each(points, _unfinished)) for name, points in found.channels.items()}
    named = sorted(by_channel, key=lambda name: (-_most(by_channel[name]), name))
    series = [
        Series(label=name, values=by_channel[name], look="abcdef"[place], draw="area")
        for place, name in enumerate(named[:_MOST_AREAS])
    ]
    if rest := named[_MOST_AREAS:]:
        series.append(
            Series(label="others", values=_sums([by_channel[name] for name in rest]), look="faint", draw="area")
        )
    sums = _sums(list(by_channel.values()))
    summary = f"{number(_last(sums))} unfinished now, {number(_most(sums))} at most."
    if named and _most(by_channel[named[0]]):
        summary += f" The longest: {named[0]} with {number(_most(by_channel[named[0]]))}."
    return Chart(name="backlog", title="Backlog by channel", summary=summary, begins=found.begins, series=series)


def _backlog_of_one(found: Charts, points: Sequence[Point | None]) -> Chart:
    words = dict.fromkeys(word for point in points if point is not None for word in point.backlog)
    series = [
        Series(
            label=word.replace("_", " "),
            values=_stood(found, _each(points, lambda point, word=word: point.backlog.get(word, 0))),  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            look="bad" if word == "dead" else "abcdef"[place % 6],
            draw="area",
        )
        for place, word in enumerate(words)
    ]
    sums = _stood(found, _each(points, _unfinished))
    summary = f"{number(_last(sums))} unfinished now, {number(_most(sums))} at most."
    return Chart(name="backlog", title="Backlog by state", summary=summary, begins=found.begins, series=series)


def _attempts(found: Charts, points: Sequence[Point | None]) -> Chart:
    series = [
        Series(label=label, values=_each(points, _outcome(word)), look=look, draw="bar")
        for word, label, look in _OUTCOMES
    ]
    ended = total(points, found.window.since).attempts
    failed = sum(ended.values()) - ended.get("delivered", 0)
    share = f" ({100 * failed / sum(ended.values()):.1f} %)" if failed else ""
    return Chart(
        name="attempts",
        title=f"Attempts by outcome per {per(found)}",
        summary=f"{number(sum(ended.values()))} attempts ended, {number(failed)} of them not delivered{share}.",
        begins=found.begins,
        series=series,
    )


def _each(points: Sequence[Point | None], read: Callable[[Point], float | None]) -> list[float | None]:
    return [None if point is None else read(point) for point in points]


def _stood(found: Charts, values: Values) -> list[float | None]:
    """What stood at the end of each span; none where nobody looked then, which is not the same as nothing."""
    return [
        value if whole is not None and whole.outbox is not None else None
        for value, whole in zip(values, found.whole, strict=True)
    ]


def _quantile(share: float) -> Callable[[Point], float | None]:
    return lambda point: point.within_seconds(share)


def _outcome(word: str) -> Callable[[Point], float]:
    return lambda point: point.attempts.get(word, 0)


def _unfinished(point: Point) -> int:
    return sum(count for word, count in point.backlog.items() if word != "dead")


def _sums(rows: Sequence[Values]) -> list[float | None]:
    return [
        None if all(value is None for value in column) else sum(value or 0 for value in column)
        for column in zip(*rows, strict=True)
    ]


def _most(values: Values) -> float:
    return max((value for value in values if value is not None), default=0)


def _last(values: Values) -> float:
    return next((value for value in reversed(values) if value is not None), 0)


def _seconds(value: float | None) -> str:
    return span(value) if value is None or value >= 10 else f"{value:.2g} s"


def _shown(value: float | None, unit: str) -> str:
    return _seconds(value) if value is None or unit == "seconds" else number(value)
