"""Waits until there may be something to publish: a wake-up from the intake, or the next poll."""

from __future__ import annotations

import contextlib
import threading

import psycopg

from assistance.domain.errors import DatabaseUnavailable
from assistance.outbox.hint import WAKE_UP
from assistance.runtime.clock import Backoff
from assistance.storage.database import raw_connection

#: How often the listening thread, which nobody waits for, looks whether it should stop.
_LOOK_SECONDS = 2.0
#: Rows that become due one shortly after the other are published together.
_SHORTEST_SECONDS = 0.01


class WakeUp:
    """Listens for wake-ups in a thread of its own. Losing one costs one poll."""

    def __init__(self, url: str, poll_seconds: float, stop: threading.Event) -> None:
        self._url = url
        self._poll_seconds = poll_seconds
        self._stop = stop
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="relay-wake-up", daemon=True)
        self._thread.start()

    def wait(self, at_most: float | None = None) -> bool:
        """Return at the next wake-up, at the poll (or `at_most` seconds from now), or when asked to stop.

        True when it was not for the time.
        """
        soon = self._poll_seconds if at_most is None else max(at_most, _SHORTEST_SECONDS)
        is_woken = self._woken.wait(min(soon, self._poll_seconds))
        self._woken.clear()
        return is_woken

    def wake(self) -> None:
        """End the current wait."""
        self._woken.set()

    def _listen(self) -> None:
        backoff = Backoff()
        while not self._stop.is_set():
            with contextlib.suppress(DatabaseUnavailable, psycopg.Error):
                with raw_connection(self._url) as connection:
                    connection.execute(f"LISTEN {WAKE_UP}")
                    backoff.reset()
                    while not self._stop.is_set():
                        for _ in connection.notifies(timeout=_LOOK_SECONDS, stop_after=1):
                            self._woken.set()
            if not self._stop.is_set():
                backoff.wait(self._stop)
        self._woken.set()
