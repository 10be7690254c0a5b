"""`python -m tests.simulation --runs N --seed S --jobs J`: run the model many times, and say what it went through."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from tests.simulation.campaign import Caught, Totals, catch, run_many
from tests.simulation.design import MUTANTS


@click.command()
@click.option("--runs", default=10_000, show_default=True, type=click.IntRange(min=1), help="How many seeds.")
@click.option("--seed", default=0, show_default=True, help="The first one; the others follow it.")
@click.option("--jobs", default=2, show_default=True, type=click.IntRange(min=1), help="How many processes.")
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures to this file, as JSON."
)
def main(runs: int, seed: int, jobs: int, report: Path | None) -> None:
    """Run each seed twice, then every mutant until it is caught. Exit code 1: something is wrong."""
    started = time.monotonic()

    def progress(done: int) -> None:
        rate = done / (time.monotonic() - started)
        print(f"\r{done:,} of {runs:,} runs, {rate:,.0f}/s ", end="", file=sys.stderr, flush=True)

    totals = run_many(seed, runs, jobs, progress)
    seconds = time.monotonic() - started
    print(file=sys.stderr)
    caught = {name: catch(name) for name in MUTANTS}
    _print_table(totals, caught, seconds)
    if report is not None:
        report.write_text(json.dumps(_as_json(totals, caught, seconds, seed, jobs), indent=2) + "\n", encoding="utf-8")
    survived = [name for name, found in caught.items() if found is None]
    sys.exit(1 if totals.violations or survived else 0)


def _print_table(totals: Totals, caught: dict[str, Caught | None], seconds: float) -> None:
    lines: dict[str, Any] = {
        "runs, each made twice": f"{totals.runs:,}",
        "runs a second (twice each)": f"{totals.runs / seconds:,.0f}",
        "steps in a run": f"{totals.steps / totals.runs:,.0f}",
        "slowest end after the last fault, s": f"{totals.slowest:.1f}",
        **{name: f"{count:,}" for name, count in sorted(totals.counts.items())},
        "violations": f"{len(totals.violations):,}",
    }
    for name, value in lines.items():
        print(f"{name:40} {value:>15}")
    for seed, text in totals.violations[:20]:
        print(f"  seed {seed}: {text}")
    print()
    for name, found in caught.items():
        print(f"mutant {name:22} " + (f"seed {found.seed:5}  {found.violation}" if found else "SURVIVED"))


def _as_json(totals: Totals, caught: dict[str, Caught | None], seconds: float, seed: int, jobs: int) -> dict[str, Any]:
    return {
        "command": f"python -m tests.simulation --runs {totals.runs} --seed {seed} --jobs {jobs}",
        "python": sys.version.split()[0],
        "seconds": round(seconds, 1),
        "runs": totals.runs,
        "steps": totals.steps,
        "slowest_end_seconds": round(totals.slowest, 2),
        "counts": dict(sorted(totals.counts.items())),
        "violations": [{"seed": seed, "text": text} for seed, text in totals.violations],
        "mutants": {
            name: found and {"seed": found.seed, "violation": found.violation} for name, found in caught.items()
        },
    }


if __name__ == "__main__":
    main()
