"""How far the steps of a request have come, and which one begins next: pure decisions over its deliveries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from assistance.domain.delivery import DeliveryState, Purpose
from assistance.domain.route import Step


class StepState(StrEnum):
    """What the required deliveries of one step amount to."""

    TRYING = "trying"
    DELIVERED = "delivered"
    DEAD = "dead"
    CANCELLED = "cancelled"


def step_states(rows: Iterable[Any]) -> dict[int, StepState]:
    """The state of each step that has begun, given deliveries (`purpose`, `required`, `state`, `step`).

    Callbacks, follow-ups and optional deliveries count for nothing.
    """
    found: dict[int, set[DeliveryState]] = {}
    for row in rows:
        if row.purpose == Purpose.NOTIFY and row.required:
            found.setdefault(row.step, set()).add(DeliveryState(row.state))
    return {step: _state_of(found[step]) for step in sorted(found)}


def _state_of(states: set[DeliveryState]) -> StepState:
    if DeliveryState.DEAD in states:
        return StepState.DEAD
    if states == {DeliveryState.CANCELLED}:
        return StepState.CANCELLED
    if states <= {DeliveryState.DELIVERED, DeliveryState.CANCELLED}:
        return StepState.DELIVERED
    return StepState.TRYING


def was_told_whole(rows: Iterable[Any]) -> bool:
    """Whether all required deliveries of one step arrived, none of them called off."""
    found: dict[int, bool] = {}
    for row in rows:
        if row.purpose == Purpose.NOTIFY and row.required:
            found[row.step] = found.get(row.step, True) and row.state == DeliveryState.DELIVERED
    return any(found.values())


def next_step(states: Mapping[int, StepState], steps: Sequence[Step]) -> int | None:
    """The step that has to begin at once because of what ended dead, or none.

    A step with a time does not wait for it once the newest step is dead; the last resort waits until all are.
    """
    if not states or StepState.DELIVERED in states.values():
        return None
    newest = max(states)
    if newest + 1 >= len(steps):
        return None
    if steps[newest + 1].after_seconds is not None:
        return newest + 1 if states[newest] is StepState.DEAD else None
    ended = set(states.values())
    return newest + 1 if StepState.DEAD in ended and StepState.TRYING not in ended else None
