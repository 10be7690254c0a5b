"""Many runs, over all cores, added up; and the mutants, each until it is caught."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing import get_context

from tests.simulation.design import MUTANTS, REAL, Design, mutant
from tests.simulation.run import run

_CHUNK = 500
#: A mutant that survives so many runs is not caught.
MOST_SEEDS = 20_000


@dataclass(slots=True)
class Totals:
    """What a number of runs did together; each was made twice, with equal traces."""

    runs: int = 0
    steps: int = 0
    slowest: float = 0.0  # seconds of the model from the last fault until everything had ended
    violations: list[tuple[int, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, other: Totals) -> None:
        self.runs += other.runs
        self.steps += other.steps
        self.slowest = max(self.slowest, other.slowest)
        self.violations += other.violations
        self.counts.update(other.counts)


def run_twice(seeds: Iterable[int], design: Design = REAL) -> Totals:
    """Run each seed twice; a different trace is a violation too (I21)."""
    totals = Totals()
    for seed in seeds:
        first, second = run(seed, design), run(seed, design)
        if first.trace != second.trace:
            totals.violations.append((seed, "I21: two runs of the same seed differ"))
        totals.runs += 1
        totals.steps += first.steps
        totals.slowest = max(totals.slowest, first.seconds)
        totals.violations += [(seed, text) for text in first.violations]
        totals.counts.update(first.counts)
    return totals


def run_many(first: int, runs: int, jobs: int, progress: Callable[[int], None]) -> Totals:
    """Run the seeds from `first` on, over `jobs` processes; `progress` is told how many runs are done."""
    totals = Totals()
    chunks = [range(start, min(start + _CHUNK, first + runs)) for start in range(first, first + runs, _CHUNK)]
    for part in _spread(chunks, jobs):
        totals.add(part)
        progress(totals.runs)
    return totals


def _spread(chunks: list[range], jobs: int) -> Iterator[Totals]:
    if jobs == 1:
        yield from map(run_twice, chunks)
        return
    with get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(run_twice, chunks)


@dataclass(frozen=True, slots=True)
class Caught:
    """How a mutant was found out."""

    name: str
    does: str
    seed: int
    violation: str


def catch(name: str, first: int = 0) -> Caught | None:
    """The first run that catches a mutant; none when it survives."""
    design = mutant(name)
    for seed in range(first, first + MOST_SEEDS):
        found = run(seed, design).violations
        if found:
            return Caught(name, MUTANTS[name], seed, found[0])
    return None
