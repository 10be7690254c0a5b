"""Values that may be some seconds old, so that an open page costs the database little."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from assistance.runtime.clock import monotonic

Value = TypeVar("Value")


class Remembered(Generic[Value]):
    """What was read lately, by what was asked. Thread-safe."""

    def __init__(self, *, seconds: float = 30.0, most: int = 500) -> None:
        self._seconds = seconds
        self._most = most
        self._kept: dict[Hashable, tuple[float, Value]] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, read: Callable[[], Value], *, is_fresh_wanted: bool) -> Value:
        """What `read` gives, or gave within the last seconds unless a fresh value is wanted."""
        with self._lock:
            read_at, value = self._kept.get(key, (0.0, None))
        if value is not None and not is_fresh_wanted and monotonic() - read_at < self._seconds:
            return value
        fresh = read()
        with self._lock:
            if len(self._kept) >= self._most:
                self._kept.clear()
            self._kept[key] = (monotonic(), fresh)
        return fresh
