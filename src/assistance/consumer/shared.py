"""What threads of a consumer want of the database at the same moment, done in one transaction.

A transaction costs a consumer more than anything else it does. Whoever comes while one is under way waits for the next
one, with all others who came, whatever their channels are; a thread that is alone waits for nobody. A process has
several of these, so that few channels have nothing to do with one another, and hundreds go together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from assistance.deliveries.claim_many import claim_many
from assistance.deliveries.lease import Lease, ToSend
from assistance.deliveries.settle import Settlement
from assistance.deliveries.transition import Concluded
from assistance.deliveries.transition_many import Arrival, Ending, Retry, conclude_many, ending_of
from assistance.domain.errors import DatabaseUnavailable
from assistance.domain.hint import Hint
from assistance.domain.outcome import Outcome
from assistance.runtime.clock import Deadline, monotonic
from assistance.runtime.group_commit import GroupCommit
from assistance.storage.database import Database

#: How long a shared transaction may be in the making; then each of its threads tries alone.
_SECONDS = 5.0
_MOST = 128
#: A message takes about as long to a provider that answers at once.
_GATHER_SECONDS = 0.008


@dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """Seconds that operators turn."""

    lease: float
    check_after: float


class SharedTransactions:
    """First tries begin here, and how tries ended is written down, unless something is particular about them.

    `in_hand` tells how many messages are worked on by those who share: a transaction waits for nobody else.
    """

    def __init__(self, database: Database, worker: str, times: Times, in_hand: Callable[[], int]) -> None:
        self._database = database
        self._worker = worker
        self._times = times
        self._group = GroupCommit[Hint | Ending, ToSend | Concluded | None](
            self._run,
            most=_MOST,
            lanes=1,
            gather_seconds=_GATHER_SECONDS,
            expected=in_hand,
            kind=_kind,
            to_the_end=True,
        )

    def claim(self, hint: Hint) -> ToSend | None:
        """Take a delivery to the hint's channel for its first try; none when `claim` has to look."""
        taken = self._submit(hint) if hint.attempt == 1 else None
        return taken if isinstance(taken, ToSend) else None

    def conclude(self, lease: Lease, settlement: Settlement, outcome: Outcome | None) -> Concluded | None:
        """Write down how a try ended; none when `conclude` has to do it."""
        ending = ending_of(lease, settlement, outcome)
        concluded = self._submit(ending) if ending is not None else None
        return concluded if isinstance(concluded, Concluded) else None

    def _submit(self, item: Hint | Ending) -> ToSend | Concluded | None:
        try:
            return self._group.submit(item, Deadline.after(_SECONDS))
        except (DatabaseUnavailable, SQLAlchemyError):
            return None  # whatever stood in the way may concern only one of them, and then the others go on

    def _run(self, items: Sequence[Hint | Ending], deadline: Deadline) -> Sequence[ToSend | Concluded | None]:
        hints = [item for item in items if isinstance(item, Hint)]
        endings = [item for item in items if isinstance(item, Arrival | Retry)]
        if hints:
            return self._database.run(lambda connection: self._claim(connection, hints), deadline)
        return self._database.run(lambda connection: self._conclude(connection, endings), deadline)

    def _claim(self, connection: Connection, hints: Sequence[Hint]) -> list[ToSend | None]:
        begun = monotonic()  # before the first statement, from which the leases count
        return claim_many(connection, hints, worker=self._worker, lease_seconds=self._times.lease, begun=begun)

    def _conclude(self, connection: Connection, endings: Sequence[Ending]) -> list[Concluded | None]:
        return conclude_many(connection, endings, actor=self._worker, check_after=self._times.check_after)


def _kind(item: Hint | Ending) -> int:
    """Endings before first tries: who is done comes back with the next one, and then all begin it together."""
    return 1 if isinstance(item, Hint) else 0
