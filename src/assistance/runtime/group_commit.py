"""Group commit: what several callers want stored at the same moment is stored in one transaction.

A caller that finds nobody at work does its own work at once; those who come meanwhile wait, and the one of them with
the most time left does the work of all when the way is free. So one caller alone waits for nobody, and a hundred cost
one commit.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, cast

from assistance.domain.errors import CommitUnknown, DatabaseUnavailable
from assistance.runtime.clock import Deadline

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Stores items and tells what became of each, in their order. What it raises is raised to every caller.
Work = Callable[[Sequence[Item], Deadline], Sequence[Result]]


class GroupCommit(Generic[Item, Result]):
    """Does the work of callers together: `most` items at once, `lanes` groups at the same time. Thread-safe.

    With `gather_seconds` a group waits, that long at most, until it is as large as the larger of the two before it:
    callers that come back as soon as they are answered would else fall into many small groups. Whoever comes after
    callers that were alone waits for nobody.
    """

    def __init__(self, work: Work[Item, Result], *, most: int, lanes: int, gather_seconds: float = 0.0) -> None:
        self._work = work
        self._most = most
        self._free_lanes = lanes
        self._gather_seconds = gather_seconds
        self._sizes = (1, 1)  # of the last two groups
        self._waiting: deque[_Ticket[Item, Result]] = deque()
        self._lock = threading.Lock()
        self._came = threading.Condition(self._lock)

    def submit(self, item: Item, deadline: Deadline) -> Result:
        """What became of the item.

        Raises what the work raised, `DatabaseUnavailable` when its turn did not come by the deadline, and
        `CommitUnknown` when it is being stored and nobody knows yet.
        """
        ticket = _Ticket[Item, Result](item, deadline)
        if not self._enter(ticket):
            ticket.called.wait(deadline.remaining())
            self._leave_if_too_late(ticket)
        if ticket.leads:
            self._lead(ticket)
        return ticket.answer()

    def _enter(self, ticket: _Ticket[Item, Result]) -> bool:
        with self._lock:
            if self._free_lanes:
                self._free_lanes -= 1
                ticket.leads = True
            else:
                self._waiting.append(ticket)
                self._came.notify_all()
            return ticket.leads

    def _leave_if_too_late(self, ticket: _Ticket[Item, Result]) -> None:
        with self._lock:
            if ticket.called.is_set():
                return
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                raise DatabaseUnavailable("The database is overloaded.")
        raise CommitUnknown

    def _lead(self, ticket: _Ticket[Item, Result]) -> None:
        """Do the work of this caller and of those who wait, then hand the lane on."""
        group = [ticket, *self._take_waiting()]
        try:
            results = self._work([each.item for each in group], ticket.deadline)
            for each, result in zip(group, results, strict=True):
                each.result = result
        except BaseException as error:
            for each in group:
                each.error = error
            raise
        finally:
            self._hand_on()
            for each in group:
                each.called.set()

    def _take_waiting(self) -> list[_Ticket[Item, Result]]:
        with self._lock:
            if self._gather_seconds:
                expected = min(max(self._sizes), self._most) - 1
                self._came.wait_for(lambda: len(self._waiting) >= expected, self._gather_seconds)
            taken = [self._waiting.popleft() for _ in range(min(self._most - 1, len(self._waiting)))]
            self._sizes = (self._sizes[1], len(taken) + 1)
            return taken

    def _hand_on(self) -> None:
        with self._lock:
            if not self._waiting:
                self._free_lanes += 1
                return
            successor = max(self._waiting, key=lambda ticket: ticket.deadline.remaining())
            self._waiting.remove(successor)
            successor.leads = True
            successor.called.set()


class _Ticket(Generic[Item, Result]):
    """One caller's item; `called` once its caller has something to do: lead, or read what became of the item."""

    __slots__ = ("called", "deadline", "error", "item", "leads", "result")

    def __init__(self, item: Item, deadline: Deadline) -> None:
        self.item = item
        self.deadline = deadline
        self.called = threading.Event()
        self.leads = False
        self.result: Result | None = None
        self.error: BaseException | None = None

    def answer(self) -> Result:
        if self.error is not None:
            raise self.error
        return cast("Result", self.result)
