"""Group commit: what several callers want stored at the same moment is stored in one transaction.

A caller that finds nobody at work does its own work at once; those who come meanwhile wait, and the one of them with
the most time left does the work of all when the way is free. So one caller alone waits for nobody, and a hundred cost
one commit.
"""

from __future__ import annotations

import math
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

    With `gather_seconds` a group waits, that long at most, until it is as large as the larger of the two before it, or
    as many callers are here as are `expected`: callers that come back as soon as they are answered would else fall
    into many small groups. Whoever comes after callers that were alone waits for nobody.

    Items of one `kind` are done together, the lowest kind that waits first; sizes are counted for each.

    With `to_the_end` a caller whose item is being stored waits past its own deadline for what becomes of it, which is
    known by the deadline of the caller that does the work.
    """

    def __init__(
        self,
        work: Work[Item, Result],
        *,
        most: int,
        lanes: int,
        gather_seconds: float = 0.0,
        expected: Callable[[], float] = lambda: math.inf,
        kind: Callable[[Item], int] = lambda _: 0,
        to_the_end: bool = False,
    ) -> None:
        self._work = work
        self._most = most
        self._free_lanes = lanes
        self._gather_seconds = gather_seconds
        self._expected = expected
        self._kind = kind
        self._to_the_end = to_the_end
        self._sizes: dict[int, tuple[int, int]] = {}  # of the last two groups of each kind
        self._waiting: deque[_Ticket[Item, Result]] = deque()
        self._lock = threading.Lock()
        self._came = threading.Condition(self._lock)

    def submit(self, item: Item, deadline: Deadline) -> Result:
        """What became of the item.

        Raises what the work raised, `DatabaseUnavailable` when its turn did not come by the deadline, and, unless all
        wait `to_the_end`, `CommitUnknown` when it is being stored and nobody knows yet.
        """
        ticket = _Ticket[Item, Result](item, deadline, self._kind(item))
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
        if not self._to_the_end:
            raise CommitUnknown
        ticket.called.wait()

    def _lead(self, ticket: _Ticket[Item, Result]) -> None:
        """Do the work of those who wait until that of this caller is done, then hand the lane on."""
        try:
            is_done = False
            while not is_done:
                group = self._next_group(ticket)
                is_done = ticket in group
                self._do(group, ticket)
        finally:
            self._hand_on()

    def _do(self, group: Sequence[_Ticket[Item, Result]], leader: _Ticket[Item, Result]) -> None:
        try:
            results = self._work([each.item for each in group], leader.deadline)
            for each, result in zip(group, results, strict=True):
                each.result = result
        except BaseException as error:
            for each in group:
                each.error = error
            if leader in group:
                raise
        finally:
            for each in group:
                each.called.set()

    def _next_group(self, leader: _Ticket[Item, Result]) -> list[_Ticket[Item, Result]]:
        with self._lock:
            if self._gather_seconds:
                self._came.wait_for(lambda: self._need_not_wait(leader), self._gather_seconds)
            group = self._alike(leader)[: self._most]
            for each in group:
                if each is not leader:
                    self._waiting.remove(each)
            kind = group[0].kind
            self._sizes[kind] = (self._sizes_of(kind)[1], len(group))
            return group

    def _alike(self, leader: _Ticket[Item, Result]) -> list[_Ticket[Item, Result]]:
        """All who want the lowest kind of work that is wanted; the leader first."""
        everybody = [leader, *self._waiting]
        lowest = min(each.kind for each in everybody)
        return [each for each in everybody if each.kind == lowest]

    def _need_not_wait(self, leader: _Ticket[Item, Result]) -> bool:
        group = self._alike(leader)
        is_large = len(group) >= min(max(self._sizes_of(group[0].kind)), self._most)
        return is_large or 1 + len(self._waiting) >= self._expected()

    def _sizes_of(self, kind: int) -> tuple[int, int]:
        return self._sizes.get(kind, (1, 1))

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

    __slots__ = ("called", "deadline", "error", "item", "kind", "leads", "result")

    def __init__(self, item: Item, deadline: Deadline, kind: int) -> None:
        self.item = item
        self.deadline = deadline
        self.kind = kind
        self.called = threading.Event()
        self.leads = False
        self.result: Result | None = None
        self.error: BaseException | None = None

    def answer(self) -> Result:
        if self.error is not None:
            raise self.error
        return cast("Result", self.result)
