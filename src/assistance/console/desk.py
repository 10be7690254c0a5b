"""What the console needs from the rest of the flow; bootstrap fills it in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from assistance.api.door import Authenticate
from assistance.configuration import Configuration
from assistance.operating.acts import Acts
from assistance.runtime.clock import Deadline, utc_now
from assistance.storage.database import Database


class Outage:
    """Since when the database has not answered this process. Thread-safe."""

    def __init__(self) -> None:
        self._since: datetime | None = None
        self._lock = threading.Lock()

    def is_over(self) -> None:
        """The database answered."""
        self._since = None

    def since(self) -> datetime:
        """The database did not answer: when that began."""
        with self._lock:
            if self._since is None:
                self._since = utc_now()
            return self._since


@dataclass(frozen=True, kw_only=True, slots=True)
class Desk:
    """Everything behind the console; used by many threads at once.

    `hide_text` keeps customers' words out of the lists that viewers see. Every call gets `deadline_seconds`.
    """

    database: Database
    configuration: Callable[[], Configuration]
    acts: Acts
    authenticate: Authenticate
    hide_text: bool = False
    deadline_seconds: float = 4.5
    outage: Outage = field(default_factory=Outage)

    def deadline(self) -> Deadline:
        """The deadline of a call that begins now."""
        return Deadline.after(self.deadline_seconds)
