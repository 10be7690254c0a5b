"""`assistance stats`: what happened lately, as a table and small plots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from assistance.cli.asking import database_of, readable, show_json
from assistance.cli.plots import Values, gathered, plot

if TYPE_CHECKING:
    from assistance.history.reading import Charts, Point

_ALL = "(all)"
_SHORTEST_PLOT, _LONGEST_PLOT, _BESIDE_PLOT = 20, 120, 40
#: What is still to be done, in `Point.backlog`.
_WAITING = ("ready", "sending", "retrying", "looked_up", "held")


@click.command()
@click.option("--since", default="1h", show_default=True, help='How far back, such as "30m" or "48h".')
@click.option("--channel", help="Of this channel alone.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table and plots: one line for each span.")
def stats(since: str, channel: str | None, as_json: bool) -> None:
    """Show what happened lately: how much, how quickly, and what waits."""
    from assistance.configuration import parse_duration
    from assistance.history.reading import charts
    from assistance.history.spans import WindowMistake
    from assistance.settings import load_settings

    try:
        length = parse_duration(since)
        if length < 60:
            raise ValueError("is shorter than a minute")
    except ValueError as error:
        raise click.BadParameter(f"{since!r} {error}", param_hint="--since") from None
    try:
        with database_of(load_settings()) as database, database.look() as connection:
            found = charts(connection, timedelta(seconds=length), channel)
    except WindowMistake as mistake:
        raise click.BadParameter(f"{since!r} {mistake.why}", param_hint="--since") from None
    if channel is not None and channel not in found.channels:
        raise click.ClickException(f"Nothing happened on a channel {channel} in this time.")
    points = found.whole if channel is None else found.channels[channel]
    if as_json:
        for point in points:
            if point is not None:
                when = {"begins_at": point.begins_at, "span_seconds": found.window.span_seconds}
                show_json({**when, "channel": channel, **point.numbers()})
        return
    _show_table(found, channel)
    _show_plots(found, points)


def _show_table(found: Charts, channel: str | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from assistance.history.reading import total

    series = {_ALL: found.whole, **dict(sorted(found.channels.items()))}
    if channel is not None:
        series = {channel: found.channels[channel]}
    table = Table("channel", box=None, pad_edge=False)  # narrow: it has to fit into 80 columns
    for title in ("accepted", "delivered", "dead", "p50", "p95", "waiting", "oldest"):
        table.add_column(title, justify="right")
    table.add_column("state")
    for name, points in series.items():
        table.add_row(*(Text(readable(cell)) for cell in _row(name, total(points, found.window.since))))
    console = Console()
    console.print(table)
    console.print()


def _row(name: str, point: Point) -> tuple[Any, ...]:
    p50, p95, oldest = map(_duration, (point.within_seconds(0.5), point.within_seconds(0.95), point.oldest_seconds))
    state = None if point.breaker is None else point.breaker.replace("_", "-")
    return name, point.accepted, point.delivered, point.dead, p50, p95, _waiting(point), oldest, state


def _show_plots(found: Charts, points: Sequence[Point | None]) -> None:
    from rich.console import Console
    from rich.text import Text

    if not any(points):
        click.echo("Nobody counted in this time: the history is written by the conciliation process.")
        return
    console = Console()
    width = max(_SHORTEST_PLOT, min(_LONGEST_PLOT, console.width - _BESIDE_PLOT))
    span = _duration(found.window.span_seconds)
    for title, value, gather, say in _PLOTS:
        values: Values = [None if point is None else value(point) for point in points]
        known = [one for one in values if one is not None]
        line = plot(gathered(values, width, gather), ascii_only=console.options.ascii_only)
        peak = say(max(known)) if known else "-"
        console.print(
            Text(f"{title:>12}  {line}  most: {peak}{f' in {span}' if gather is sum else ''}"), soft_wrap=True
        )
    console.print(
        Text(f"{'':>12}  from {found.window.since:%Y-%m-%d %H:%M} to {found.window.until:%Y-%m-%d %H:%M} UTC")
    )


def _waiting(point: Point) -> int:
    return sum(point.backlog.get(state, 0) for state in _WAITING)


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _duration(seconds: float | None) -> str:
    """Seconds as people say them, in one unit."""
    if seconds is None:
        return "-"
    for unit, size, until in (("ms", 0.001, 1), ("s", 1, 100), ("m", 60, 6000), ("h", 3600, 172_800)):
        if seconds < until:
            return f"{seconds / size:.3g}{unit}"
    return f"{seconds / 86_400:.3g}d"


_PLOTS: tuple[tuple[str, Callable[[Any], float | None], Callable[[Sequence[float]], float], Any], ...] = (
    ("accepted", lambda point: point.accepted, sum, _number),
    ("delivered", lambda point: point.delivered, sum, _number),
    ("dead", lambda point: point.dead, sum, _number),
    ("p95", lambda point: point.within_seconds(0.95), max, _duration),
    ("waiting", _waiting, max, _number),
)
COMMANDS = (stats,)
