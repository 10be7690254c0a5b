"""Runs a list of rows on one stand, with a progress bar, and reports."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.bench import Bench
from bench.measuring import Row, measure
from bench.page import chapter, write_page
from bench.peers import version_of
from bench.report import Report
from bench.stand import Stand
from bench.surroundings import surroundings
from bench.ways import Way

FindPeers = Callable[[Callable[[str], object]], Sequence[Way]]
MakeRow = Callable[[Bench], AbstractContextManager[Row]]


def main(
    rows: Sequence[MakeRow],
    data: Path,
    find_peers: FindPeers,
    *,
    command: str,
    description: str | None,
    rounds: int,
) -> None:
    """Measure as the command line says, print, keep the data, and write the page anew; exit code 1 when a case is void.

    `rounds` is what the command line need not say; `find_peers` is given what prints who is left out.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=rounds, help="how often each case is measured (%(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each time (%(default)s)")
    chosen = parser.parse_args()
    report = _run(rows, find_peers, command, chosen.rounds, chosen.seconds)
    Console(soft_wrap=True).print(chapter(report), markup=False, highlight=False)
    report.write(data)
    write_page()
    sys.exit(1 if report.is_void else 0)


def _run(rows: Sequence[MakeRow], find_peers: FindPeers, command: str, rounds: int, seconds: float) -> Report:
    columns = (TextColumn("{task.description:40}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory(prefix="assistance-bench-") as folder,
        Stand(Path(folder)) as stand,
        Progress(*columns, console=Console(stderr=True)) as progress,
    ):
        bench = Bench(stand=stand, seconds=seconds, rounds=rounds, peers=find_peers(progress.console.print))
        whole = progress.add_task("Rows", total=len(rows))
        for make_row in rows:
            with make_row(bench) as row:
                times = min(rounds, row.most_rounds)
                task = progress.add_task(row.title, total=times * len(row.cases))
                bench.results[row.title] = measure(row, times, partial(progress.advance, task))
            progress.advance(whole)
        return Report(
            command=f"{command} ROUNDS={rounds} SECONDS={seconds:g}",
            surroundings=surroundings(stand),
            compared={f"{way.name} {version_of(way)}": way.settings for way in bench.peers},
            results=list(bench.results.values()),
        )
