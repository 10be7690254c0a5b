"""Backpressure: how many hints wait for each channel, so that a full outbox is refused and not grown.

Counted per channel, so that one dead channel does not shut the door for the others.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from sqlalchemy import func, literal, select

from assistance.domain.errors import DatabaseUnavailable, OutboxFull
from assistance.runtime.clock import Deadline, monotonic
from assistance.storage.database import Database
from assistance.storage.tables import outbox

_FULL_AT = 0.9
_FRESH_SECONDS = 1.0
#: A million rows take a while to count: the count is good for so many times as long as it took.
_FRESH_TIMES = 20
_COUNT_SECONDS = 1.0
_RETRY_AFTER_SECONDS = 5.0


class Backlog:
    """Counts due outbox rows, at most once a second and for a twentieth of the time, whoever asks. Thread-safe."""

    def __init__(self, database: Database, channels: Iterable[str], limit: int) -> None:
        self._database = database
        self._channels = tuple(channels)
        self._full_at = max(1, int(limit * _FULL_AT))
        self._full: frozenset[str] = frozenset()
        self._fresh_until = float("-inf")
        self._counting = threading.Lock()

    def check(self, channels: Iterable[str], deadline: Deadline) -> None:
        """Raises `OutboxFull` when one of the channels has too much waiting."""
        if monotonic() > self._fresh_until and self._counting.acquire(blocking=False):
            began_at = monotonic()
            try:
                self._full = self._count(Deadline.after(min(_COUNT_SECONDS, deadline.remaining())))
            except DatabaseUnavailable:
                pass  # the caller is about to find out by itself
            finally:
                now = monotonic()
                self._fresh_until = now + max(_FRESH_SECONDS, _FRESH_TIMES * (now - began_at))
                self._counting.release()
        if not self._full.isdisjoint(channels):
            raise OutboxFull(_RETRY_AFTER_SECONDS)

    def _count(self, deadline: Deadline) -> frozenset[str]:
        with self._database.transaction(deadline) as connection:
            return frozenset(
                channel
                for channel in self._channels
                if connection.scalar(
                    select(func.count()).select_from(
                        select(literal(1))
                        .select_from(outbox)
                        .where(outbox.c.channel == channel, outbox.c.available_at <= func.now())
                        .limit(self._full_at)
                        .subquery()
                    )
                )
                == self._full_at
            )
