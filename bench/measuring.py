"""What is measured, how often, and what is demanded of it.

A row compares cases: ours is the first. In each round every case is measured once, one after the other, so that a
machine that is slow for a while is slow for all of them; medians over the rounds are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from subprocess import SubprocessError
from typing import Any

OURS = "assistance"
PER_SECOND, MEDIAN_MS = "per second", "p50 ms"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """What one case gave in one round: figures by name, and why they do not count, if so."""

    figures: Mapping[str, float]
    void: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One of the ways to do the same thing."""

    name: str
    measure: Callable[[], Sample]
    is_limit: bool = False  # does less than we do; nobody loses against it


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A demand on a figure of ours: on itself, or on its ratio to the same figure of the best of other cases.

    `limit` is the least where more is better, the most where `is_most`.
    """

    figure: str
    limit: float
    is_most: bool = False
    unit: str = ""
    against: Sequence[str] = ()
    against_words: str = ""

    @property
    def words(self) -> str:
        """`≥ 0.5 × bare Flask`."""
        sign = "≤" if self.is_most else "≥"
        if self.against:
            return f"{self.figure} {sign} {self.limit:g} × {self.against_words or ' and '.join(self.against)}"
        return f"{self.figure} {sign} {self.limit:,g}{self.unit}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A comparison to make."""

    title: str
    note: str
    cases: Sequence[Case]
    targets: Sequence[Target] = ()
    most_rounds: int = 5


@dataclass(kw_only=True, slots=True)
class Verdict:
    """Whether a target was met; none when a case of it is void or was not there."""

    target: str
    measured: str
    met: bool | None


@dataclass(kw_only=True, slots=True)
class Result:
    """What a row gave: the figures of each case in each round, and the reasons why a case is void.

    `limits` are the cases that do less than we do.
    """

    title: str
    note: str
    limits: list[str] = field(default_factory=list)
    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    void: dict[str, list[str]] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)

    def median(self, case: str, figure: str) -> float:
        """The median of a figure over all rounds."""
        return median(self.figures[case][figure])

    def better_than_ours(self) -> list[str]:
        """Cases that do the same as we do, and more of it in a second; where that is not the question, quicker."""
        ours = self.figures.get(OURS, {})
        figure, sign = (PER_SECOND, 1) if PER_SECOND in ours else (MEDIAN_MS, -1)
        if figure not in ours:
            return []
        rivals = [case for case, found in self.figures.items() if figure in found and case not in self.limits]
        return [case for case in rivals if sign * self.median(case, figure) > sign * self.median(OURS, figure)]

    def add(self, case: str, sample: Sample) -> None:
        """Keep what one round gave."""
        kept = self.figures.setdefault(case, {})
        for name, value in sample.figures.items():
            kept.setdefault(name, []).append(value)
        if sample.void:
            self.void.setdefault(case, []).append(sample.void)

    def judge(self, target: Target) -> Verdict:
        """Compare with a target."""
        involved = [OURS, *target.against]
        missing = [case for case in involved if target.figure not in self.figures.get(case, {})]
        if missing:
            return Verdict(target=target.words, measured=f"not measured: {', '.join(missing)}", met=None)
        void = [case for case in involved if case in self.void]
        if void:
            return Verdict(target=target.words, measured=f"void: {', '.join(void)}", met=None)
        value = self.median(OURS, target.figure)
        measured = f"{value:,.3g}{target.unit}" if value < 1000 else f"{value:,.0f}{target.unit}"
        if target.against:
            others = [self.median(case, target.figure) for case in target.against]
            value /= min(others) if target.is_most else max(others)
            measured = f"{value:.2f} × ({measured})"
        return Verdict(
            target=target.words,
            measured=measured,
            met=value <= target.limit if target.is_most else value >= target.limit,
        )


def measure(row: Row, rounds: int, advance: Callable[[], Any]) -> Result:
    """Measure every case of the row in each round, in turn; `advance` is called after each."""
    limits = [case.name for case in row.cases if case.is_limit]
    result = Result(title=row.title, note=row.note, limits=limits)
    for _ in range(min(rounds, row.most_rounds)):
        for case in row.cases:
            result.add(case.name, _sample(case))
            advance()
    result.verdicts = [result.judge(target) for target in row.targets]
    return result


def _sample(case: Case) -> Sample:
    """What the case gave; a case that fails is void, and the others go on."""
    try:
        return case.measure()
    except (AssertionError, SubprocessError) as error:
        return Sample(figures={}, void=f"it failed: {error}")
