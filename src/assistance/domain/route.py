"""The route of a topic: who is told first, who is told if they do not confirm, and who when everybody else failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Channels that are told together.

    `after_seconds` counts from the acceptance of the request. Without it a step is the first one or the last resort,
    which waits until every step before it ended dead.
    """

    to: tuple[str, ...]
    after_seconds: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """Where the requests of a topic go; each channel occurs in one step only, and the times of the steps grow."""

    to: tuple[str, ...]
    fallback: tuple[Step, ...] = ()
    last_resort: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps in their order; a delivery's `step` is an index into it."""
        last = (Step(to=self.last_resort),) if self.last_resort else ()
        return (Step(to=self.to), *self.fallback, *last)


def freeze_steps(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """The steps as JSON, for a request to keep: a changed file never changes a request under way."""
    return [
        {"to": list(step.to)} | ({} if step.after_seconds is None else {"after": step.after_seconds}) for step in steps
    ]


def thaw_steps(frozen: Sequence[dict[str, Any]]) -> tuple[Step, ...]:
    """The steps that `freeze_steps` wrote down."""
    return tuple(Step(to=tuple(step["to"]), after_seconds=step.get("after")) for step in frozen)


def fold_topic(topic: str) -> str:
    """The form in which topics are compared: trimmed and case-folded."""
    return topic.strip().casefold()
