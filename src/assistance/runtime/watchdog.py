"""Ends calls that no driver time-out would end, by running an action at a deadline.

Nothing at driver level ends a call to a server that went silent behind a proxy, so the action is usually to shut the
socket down under the blocked call.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import socket
import threading
from collections.abc import Callable, Iterator

from assistance.runtime.clock import Deadline, monotonic


class Watchdog:
    """One thread that runs actions at their deadlines, unless they were called off before."""

    def __init__(self) -> None:
        self._start_afresh()
        # A forked child inherits the lock as it was at that moment, perhaps held, but not the thread that held it.
        os.register_at_fork(after_in_child=self._start_afresh)

    def _start_afresh(self) -> None:
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int]] = []
        self._actions: dict[int, Callable[[], None]] = {}
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def at(self, deadline: Deadline, action: Callable[[], None]) -> Iterator[None]:
        """Run `action`, which must be quick, in the watchdog's thread if the block is still running at `deadline`."""
        number = self._add(deadline.at, action)
        try:
            yield
        finally:
            with self._changed:
                self._actions.pop(number, None)

    def _add(self, at: float, action: Callable[[], None]) -> int:
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
                self._thread.start()
            number = next(self._numbers)
            self._actions[number] = action
            heapq.heappush(self._heap, (at, number))
            if self._heap[0][1] == number:
                self._changed.notify()
            return number

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._heap and self._heap[0][1] not in self._actions:
                    heapq.heappop(self._heap)
                wait = self._heap[0][0] - monotonic() if self._heap else None
                if wait is None or wait > 0:
                    self._changed.wait(wait)
                    continue
                action = self._actions.pop(heapq.heappop(self._heap)[1])
                # Still under the lock: the guarded block cannot leave meanwhile, so that a file descriptor that the
                # action uses cannot have been closed and given to somebody else.
                with contextlib.suppress(OSError):
                    action()


#: Shared by the whole process; one thread is enough for any number of calls.
watchdog = Watchdog()


def shut_socket(descriptor: int) -> None:
    """Shut down the socket behind a file descriptor, so that whoever blocks on it returns with an error."""
    with socket.socket(fileno=os.dup(descriptor)) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)
