"""Wake the relay: a notification after the commit, on a connection of its own.

Never inside the business transaction, because NOTIFY takes a cluster-wide lock until the commit. Losing a wake-up costs
one poll of the relay.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import psycopg

from assistance.domain.errors import DatabaseUnavailable
from assistance.runtime.clock import sleep
from assistance.storage.database import raw_connection

#: The PostgreSQL notification channel that relays listen on.
WAKE_UP = "assistance_outbox"
#: At most one notification in this time; whoever comes in between is covered by the next one.
_PAUSE_SECONDS = 0.005


class WakeUpSender:
    """Sends wake-ups from a thread of its own, so that no caller waits for them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._wanted = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="wake-up", daemon=True)
        self._thread.start()

    def send(self) -> None:
        """Ask for a wake-up; returns at once. Call it after the commit."""
        self._wanted.set()

    def close(self) -> None:
        """Stop the thread."""
        self._closed = True
        self._wanted.set()
        self._thread.join(timeout=2)

    def _run(self) -> None:
        connection: psycopg.Connection[Any] | None = None
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._closed:
                break
            try:
                if connection is None:
                    connection = raw_connection(self._url)
                    connection.execute("SET synchronous_commit = off")
                connection.execute(f"NOTIFY {WAKE_UP}")
            except (DatabaseUnavailable, psycopg.Error):
                # The relay polls; the next wake-up tries a new connection.
                with contextlib.suppress(psycopg.Error):
                    if connection is not None:
                        connection.close()
                connection = None
            sleep(_PAUSE_SECONDS)
        if connection is not None:
            connection.close()
