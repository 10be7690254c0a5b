"""PostgreSQL as the flow needs it: READ COMMITTED transactions, row locks that are waited for, commits that are unsure.

Rows are replaced, never changed in place, so that a reader sees what was committed when it read. Time stands still
within a step; `now` is the database's clock.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from assistance.domain.delivery import FINISHED, AttemptOutcome, DeliveryState
from tests.simulation.design import RELAY_POLL
from tests.simulation.rows import Attempt, Delivery, Key, Letter, OutboxRow, Request, Timer
from tests.simulation.scheduler import Scheduler, Steps, Task

#: Later than any run ends.
LONG_AFTER = 1e6
RowKey: TypeAlias = tuple[str, Any]

_PENDING, _SENDING, _UNKNOWN = DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.UNKNOWN
_DELIVERED, _DEAD, _CANCELLED = DeliveryState.DELIVERED, DeliveryState.DEAD, DeliveryState.CANCELLED
#: The picture in docs/flow.md; a claim may be renewed, and conciliation touches rows without moving them.
_MOVES = frozenset(
    {
        (_PENDING, _SENDING),
        (_PENDING, _UNKNOWN),  # a late receipt turned up
        (_SENDING, _DELIVERED),
        (_SENDING, _PENDING),
        (_SENDING, _UNKNOWN),
        (_SENDING, _DEAD),
        (_UNKNOWN, _DELIVERED),
        (_UNKNOWN, _PENDING),
        (_UNKNOWN, _DEAD),
        (_DEAD, _PENDING),
        (_PENDING, _CANCELLED),
        (_SENDING, _CANCELLED),
        (_UNKNOWN, _CANCELLED),
    }
    | {(state, state) for state in (_PENDING, _SENDING, _UNKNOWN)}
)


class Violation(AssertionError):
    """An invariant does not hold; the text starts with its number."""


class DatabaseLost(Exception):
    """The connection broke or the server is away; nothing of the transaction is stored."""


class CommitUnknown(DatabaseLost):
    """The connection broke during the commit: it may be stored."""


class Transaction:
    """Its changes are seen by others after the commit, all at once or not at all."""

    __slots__ = ("changes", "is_over", "locks", "store", "task")

    def __init__(self, store: Store, task: Task) -> None:
        self.store = store
        self.task = task
        self.changes: dict[RowKey, Any] = {}
        self.locks: list[RowKey] = []
        self.is_over = False
        task.abandon = self.abort

    def get(self, key: RowKey) -> Any:
        """The row as this transaction sees it, or none."""
        if key in self.changes:
            return self.changes[key]
        return self.store.tables[key[0]].get(key[1])

    def put(self, key: RowKey, row: Any) -> None:
        """Write a row, or delete it with `None`."""
        self.changes[key] = row

    def lock(self, key: RowKey) -> Steps[None]:
        """Wait until the row is ours.

        Raises `DatabaseLost`.
        """
        locks = self.store.locks
        while True:
            if self.is_over:
                raise DatabaseLost
            holder = locks.get(key)
            if holder is self:
                return
            if holder is None:
                locks[key] = self
                self.locks.append(key)
                return
            self.store.waiting.setdefault(key, []).append((self.task, self.task.turn))
            yield None

    def try_lock(self, key: RowKey) -> bool:
        """Lock the row unless somebody else holds it, as SKIP LOCKED does."""
        if key in self.store.locks:
            return self.store.locks[key] is self
        self.store.locks[key] = self
        self.locks.append(key)
        return True

    def abort(self) -> None:
        """Forget the changes and let go of the locks."""
        if self.is_over:
            return
        self.is_over = True
        self.task.abandon = None
        self.changes.clear()
        self.store.release(self)

    def commit(self) -> None:
        """Store the changes.

        Raises `DatabaseLost` when they were not stored, `CommitUnknown` when nobody can tell.
        """
        self.store.commit(self)


class Store:
    """The tables and who has locked what."""

    def __init__(self, scheduler: Scheduler, *, checks_check_at: bool = True) -> None:
        self.scheduler = scheduler
        self.checks_check_at = checks_check_at
        self.requests: dict[int, Request] = {}
        self.deliveries: dict[int, Delivery] = {}
        self.attempts: dict[tuple[int, int, int], Attempt] = {}
        self.outbox: dict[tuple[int, int, int], OutboxRow] = {}
        self.letters: dict[int, Letter] = {}
        self.keys: dict[int, Key] = {}
        self.timers: dict[int, Timer] = {}
        self.channels: dict[str, Any] = {}
        self.tables: dict[str, dict[Any, Any]] = {
            "request": self.requests,
            "delivery": self.deliveries,
            "attempt": self.attempts,
            "outbox": self.outbox,
            "letter": self.letters,
            "key": self.keys,
            "timer": self.timers,
            "channel": self.channels,
        }
        self.locks: dict[RowKey, Transaction] = {}
        self.waiting: dict[RowKey, list[tuple[Task, int]]] = {}
        self.transactions: dict[Transaction, None] = {}
        self.polling: list[tuple[Task, int]] = []
        self.numbers = 0
        self.down_until = 0.0
        self.ambiguous_rate = 0.0
        self.unsure: set[tuple[int, int, int]] = set()  # attempts that were unknown at any time

    def begin(self) -> Transaction:
        """Open a transaction for the task whose turn it is.

        Raises `DatabaseLost` while the server is away.
        """
        if self.scheduler.now < self.down_until:
            raise DatabaseLost
        transaction = Transaction(self, self.scheduler.current)
        self.transactions[transaction] = None
        return transaction

    def until_a_hint_is_due(self) -> Steps[None]:
        """For a relay that polls: sleep as long as a poll would find nothing."""
        scheduler = self.scheduler
        due = min((row.available_at for row in self.outbox.values()), default=LONG_AFTER)
        self.polling.append((scheduler.current, scheduler.current.turn + 1))  # the turn that begins with this yield
        yield RELAY_POLL + max(0.0, due - scheduler.now)

    def next_number(self) -> int:
        """From a sequence: handed out at once, whether or not the transaction commits."""
        self.numbers += 1
        return self.numbers

    def kill(self, down_for: float) -> None:
        """The server crashes: every open transaction is undone, and for a while nobody gets in."""
        self.scheduler.counts["database kills"] += 1
        self.down_until = self.scheduler.now + down_for
        for transaction in list(self.transactions):
            transaction.abort()
        for key in list(self.waiting):
            self._wake(key)

    def commit(self, transaction: Transaction) -> None:
        scheduler = self.scheduler
        if transaction.is_over or scheduler.now < self.down_until:
            transaction.abort()
            raise DatabaseLost
        unsure = self.ambiguous_rate and scheduler.random() < self.ambiguous_rate
        if unsure:
            scheduler.counts["ambiguous commits"] += 1
            if scheduler.random() < 0.5:
                transaction.abort()
                raise CommitUnknown
        self._apply(transaction.changes)
        transaction.abort()
        if self.outbox and self.polling:
            for task, turn in self.polling:
                scheduler.wake(task, turn, RELAY_POLL * scheduler.random())
            self.polling.clear()
        if unsure:
            raise CommitUnknown

    def _apply(self, changes: dict[RowKey, Any]) -> None:
        for (table, key), row in changes.items():
            if table == "delivery":
                self._check(self.deliveries.get(key), row)
                self.scheduler.trace.append((key, row.state.value, row.series, row.attempt))
            elif table == "attempt" and row.outcome is AttemptOutcome.UNKNOWN:
                self.unsure.add(key)
            if row is None:
                self.tables[table].pop(key, None)
            else:
                self.tables[table][key] = row

    def release(self, transaction: Transaction) -> None:
        """Let go of a transaction's locks; who waits for them tries again."""
        self.transactions.pop(transaction, None)
        for key in transaction.locks:
            del self.locks[key]
            if key in self.waiting:
                self._wake(key)
        transaction.locks.clear()

    def _wake(self, key: RowKey) -> None:
        for task, turn in self.waiting.pop(key):
            self.scheduler.wake(task, turn)

    def _check(self, before: Delivery | None, row: Delivery) -> None:
        """The CHECK constraints of the table, and the transitions that docs/flow.md allows."""
        finished = row.state in FINISHED
        if finished == (row.check_at is not None) and self.checks_check_at:
            raise Violation(f"I10: delivery {row.id} is {row.state} with check_at {row.check_at}")
        if (row.state is _SENDING) != (row.lease_token is not None) and row.state is not _UNKNOWN:
            raise Violation(f"I8: delivery {row.id} is {row.state} with lease {row.lease_token}")
        if row.state is _DELIVERED and not row.receipt:
            raise Violation(f"I9: delivery {row.id} is delivered without a receipt")
        if row.held_at is not None and (row.state is not _UNKNOWN or row.lease_token is not None):
            raise Violation(f"I8: delivery {row.id} is held and {row.state}")
        if before is None:
            return
        if row.state is _CANCELLED and row.series > 1:
            raise Violation(f"I8: delivery {row.id} was replayed and then cancelled")
        if (before.state, row.state) not in _MOVES:
            raise Violation(f"I8: delivery {row.id} went from {before.state} to {row.state}")
        if (before.state is _DEAD) != (row.series == before.series + 1) or row.series < before.series:
            raise Violation(f"I8: delivery {row.id} went from series {before.series} to {row.series}")
