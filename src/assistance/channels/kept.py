"""Connections that stay open between calls, so that the next call need not make one.

One set per channel object. There are never more than calls at the same time; those that nobody wants again are closed
after a while, those that the server closed meanwhile are noticed before anything is said on them, and no other process
shares one.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import weakref
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from assistance.channels.wire import is_quiet
from assistance.runtime.clock import Deadline, monotonic
from assistance.runtime.watchdog import watchdog

#: Shorter than the five seconds after which many servers close: what is said at that moment may never be read.
_IDLE_SECONDS = 3.0
#: After that a new one is made, so that a name that leads elsewhere by now is obeyed.
_LONGEST_LIFE_SECONDS = 60.0


class Keepable(Protocol):
    """A connection on which one call has ended and another may begin."""

    @property
    def sock(self) -> socket.socket:
        """Its socket."""

    @property
    def born(self) -> float:
        """When it was made, on the monotonic clock."""

    def retire(self) -> None:
        """Close it, with a good-bye where that is usual; quick, and never raises `OSError`."""


Item = TypeVar("Item", bound=Keepable)


@dataclass(eq=False)
class _Idle(Generic[Item]):
    key: Hashable
    item: Item
    until: contextlib.ExitStack = field(
        default_factory=contextlib.ExitStack
    )  # its end, which whoever takes it calls off


class Kept(Generic[Item]):
    """The idle connections of one channel. Thread-safe."""

    def __init__(self) -> None:
        self._shelf = _Shelf[Item]()
        # A clean stop closes them, and so does the end of a channel object in a test.
        weakref.finalize(self, _Shelf.clear, self._shelf)

    def take(self, key: Hashable) -> Item | None:
        """The newest one that still stands; none when there is none."""
        while (idle := self._shelf.pop(key)) is not None:
            idle.until.close()
            if is_quiet(idle.item.sock):
                return idle.item
            idle.item.retire()
        return None

    def put(self, key: Hashable, item: Item) -> None:
        """Keep it for the next call; it must be between two calls."""
        if monotonic() - item.born > _LONGEST_LIFE_SECONDS:
            item.retire()
            return
        shelf, idle = self._shelf, _Idle(key, item)
        # The end first: whoever takes it as soon as it is there finds something to call off.
        idle.until.enter_context(watchdog.at(Deadline.after(_IDLE_SECONDS), lambda: shelf.drop(idle)))
        shelf.push(idle)


class _Shelf(Generic[Item]):
    """The list behind a `Kept`; apart from it, so that nothing that is to happen later keeps a channel alive."""

    def __init__(self) -> None:
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._idle: list[_Idle[Item]] = []

    def pop(self, key: Hashable) -> _Idle[Item] | None:
        self._leave_to_parent()
        with self._lock:
            found = next((idle for idle in reversed(self._idle) if idle.key == key), None)
            if found is not None:
                self._idle.remove(found)
            return found

    def push(self, idle: _Idle[Item]) -> None:
        self._leave_to_parent()
        with self._lock:
            self._idle.append(idle)

    def drop(self, idle: _Idle[Item]) -> None:
        """Close it unless somebody took it; called by the watchdog."""
        with self._lock:
            if idle not in self._idle:
                return
            self._idle.remove(idle)
        idle.item.retire()

    def clear(self) -> None:
        self._leave_to_parent()
        with self._lock:
            idle, self._idle = self._idle, []
        for each in idle:
            each.until.close()
            each.item.retire()

    def _leave_to_parent(self) -> None:
        """A forked child has the same sockets: it closes its copies without a word, and makes its own connections."""
        if self._process == os.getpid():
            return
        inherited = self._idle
        self._start_afresh()
        for each in inherited:
            each.item.sock.close()
