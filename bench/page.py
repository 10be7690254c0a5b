"""The page docs/performance.md, made from the data of the last runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from bench.measuring import Result
from bench.report import Report, read
from bench.stand import ROOT

PAGE = ROOT / "docs" / "performance.md"
DATA, SCALE_DATA = (ROOT / "docs" / "reports" / name for name in ("performance.json", "scale.json"))

_VERDICTS = {False: "**not met**", None: "void", True: "met"}
_INTRODUCTION = """\
# Performance

*Written by `make bench` and `make bench-scale`; a test compares it with their data.*

Everything runs on one machine, and shares it: the service, PostgreSQL (`fsync` on), RabbitMQ and the load generator.
The cases of a row are measured in turn, round after round; each figure is a median, with its range over the rounds.
"CPU" is seconds of processor time per 1,000 requests, "MiB" the peak memory of the largest process. A case is void when
the number of stored requests is not that of the calls that were accepted, when a message is missing, or when the ledger
does not close afterwards. Rows with a target that is not met, or in which somebody else is faster, come first;
[why, and what would change it](capacity.md#what-the-missed-targets-wait-for).
"""


def write_page() -> None:
    """Write it anew."""
    PAGE.write_text(page(read(DATA), read(SCALE_DATA)), encoding="utf-8")


def page(report: Report | None, scale: Report | None) -> str:
    """The page in Markdown, for those runs that there were."""
    parts = [_INTRODUCTION]
    parts += ["## On one machine", chapter(report)] if report else []
    parts += ["## At scale", chapter(scale)] if scale else []
    return "\n\n".join(part.strip() for part in parts) + "\n"


def chapter(report: Report) -> str:
    """One run: its targets, its rows, and how it was measured."""
    results = sorted(report.results, key=lambda result: not _is_lost(result))
    rows = ["\n\n".join(_row(result)) for result in results]
    how = [f"| {name} | {value} |" for name, value in {**report.surroundings, **report.compared}.items()]
    heading = f"### What `{report.command}` ran on"
    return "\n\n".join([_targets(results), *rows, heading, "\n".join(["| | |", "|---|---|", *how])])


def _row(result: Result) -> Iterator[str]:
    yield f"### {result.title}"
    yield result.note
    yield _figures(result)
    yield from (f"Void: {case}: {reasons[0]}." for case, reasons in result.void.items())


def _is_lost(result: Result) -> bool:
    """Whether a target was missed, or a case that is no mere limit did better."""
    missed = any(verdict.met is False for verdict in result.verdicts)
    return missed or bool(result.better_than_ours())


def _targets(results: Sequence[Result]) -> str:
    judged = [(result.title, verdict) for result in results for verdict in result.verdicts]
    judged.sort(key=lambda one: list(_VERDICTS).index(one[1].met))
    lines = [f"| {title} | {v.target} | {v.measured} | {_VERDICTS[v.met]} |" for title, v in judged]
    return "\n".join(["| What | Target | Measured | |", "|---|---|---|---|", *lines])


def _figures(result: Result) -> str:
    if len(result.figures) == 1:
        ((case, figures),) = result.figures.items()
        alone = [f"| {name} | {_cell(values)} |" for name, values in figures.items()]
        return "\n".join([f"| | {_named(result, case)} |", "|---|---|", *alone])
    names = list(dict.fromkeys(name for figures in result.figures.values() for name in figures))
    lines = [f"| | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for case, figures in result.figures.items():
        cells = " | ".join(_cell(figures.get(name)) for name in names)
        lines.append(f"| {_named(result, case)} | {cells} |")
    return "\n".join(lines)


def _named(result: Result, case: str) -> str:
    return f"{case} (void)" if case in result.void else case


def _cell(values: Sequence[float] | None) -> str:
    if not values:
        return ""
    middle, least, most = (_number(value) for value in (median(values), min(values), max(values)))
    return middle if least == most else f"{middle} ({least}–{most})"


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
