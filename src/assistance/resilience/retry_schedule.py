"""When to try again: a list of delays of which the last repeats, until a time budget is spent."""

from __future__ import annotations

from dataclasses import dataclass

_SECOND, _MINUTE, _HOUR = 1.0, 60.0, 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrySchedule:
    """Delays and budget in seconds; `jitter` 0.2 spreads each delay by ±20 %."""

    delays: tuple[float, ...]
    give_up_after: float
    jitter: float = 0.2

    def delay_after(self, failures: int, spread: float) -> float:
        """Seconds to wait after that many failed tries (1 = the first); `spread` in [0, 1) picks the jitter."""
        delay = self.delays[min(failures, len(self.delays)) - 1]
        return delay * (1 + self.jitter * (2 * spread - 1))

    def allows(self, elapsed: float, delay: float) -> bool:
        """Whether a try that starts `delay` from now, `elapsed` after the first one, is still within the budget."""
        return elapsed + delay <= self.give_up_after


#: For channels that people read: quick at first, because a customer waits; patient later, because nights exist.
HUMAN = RetrySchedule(
    delays=(
        1 * _SECOND,
        5 * _SECOND,
        15 * _SECOND,
        1 * _MINUTE,
        3 * _MINUTE,
        10 * _MINUTE,
        30 * _MINUTE,
        1 * _HOUR,
        2 * _HOUR,
        4 * _HOUR,
    ),
    give_up_after=24 * _HOUR,
)

#: For callbacks, as Standard Webhooks recommends: ten tries, the last one about 75 hours after the first. The budget
#: leaves room for jitter and for waits that a bot asks for.
CALLBACK = RetrySchedule(
    delays=(
        5 * _SECOND,
        5 * _MINUTE,
        30 * _MINUTE,
        2 * _HOUR,
        5 * _HOUR,
        10 * _HOUR,
        14 * _HOUR,
        20 * _HOUR,
        24 * _HOUR,
    ),
    give_up_after=84 * _HOUR,
    jitter=0.1,
)
