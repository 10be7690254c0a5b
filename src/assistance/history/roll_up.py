"""Roll up: once a minute, what happened in the last ones is counted and written down, whoever counts first.

A minute is counted as soon as it is over, and once more with the next one: what was under way at its end is committed
by then, because no transaction lasts longer than its deadline of half a minute. Counting again changes nothing but what
has to be changed, so any number of processes may do it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import structlog
from sqlalchemy import Connection, Row, text

from assistance.history.counting import COUNT
from assistance.history.latency import BOUNDS
from assistance.history.merging import MERGE
from assistance.history.spans import KEPT_SECONDS, MINUTE, SPANS, place
from assistance.history.standing import STAND
from assistance.runtime.clock import Deadline, monotonic
from assistance.storage.database import Database
from assistance.storage.locks import Lock

log = structlog.get_logger()

_MINUTE = timedelta(seconds=MINUTE)
_AGAIN = _MINUTE
#: A conciliation process that was away for longer leaves a gap.
_LONGEST_GAP = timedelta(hours=1)
#: How much is counted in one transaction.
_SLICE = 10 * _MINUTE
#: A try that began longer ago is not looked at any more. One that nobody knew the end of may be found meanwhile.
_LOOK_BACK = timedelta(minutes=20)
_SECONDS = 20.0
#: A minute is looked at once what was committed in its last moment can be seen.
_AFTER_SECONDS = 0.5
_PURGE_SECONDS = 3600.0

_WHERE_IT_STANDS = text(
    """
    SELECT pg_try_advisory_xact_lock(:lock) AS mine, date_trunc('minute', now()) AS upto,
           60 - CAST(extract(second FROM now()) AS float8) AS seconds_left,
           (SELECT max(begins_at) FROM history WHERE span_seconds = :minute AND channel = '') AS last
    """
)
_PURGE = text(
    """
    DELETE FROM history h USING unnest(CAST(:spans AS integer[]), CAST(:kept AS integer[])) AS limits (span, seconds)
    WHERE h.span_seconds = limits.span AND h.begins_at < now() - make_interval(secs => limits.seconds)
    """
)


@dataclass(frozen=True, slots=True)
class _Slice:
    """The minutes to count in one transaction, the end excluded."""

    begin: datetime
    end: datetime
    has_more: bool


class RollUp:
    """Keeps the history up to date. Any number may run at once, in any process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counted_upto: datetime | None = None
        self._purge_at = monotonic()
        #: How long after the last pass the next minute will be over.
        self.next_seconds = 0.0

    def one_pass(self) -> bool:
        """Count what is to be counted, ten minutes at most; true when there is more."""
        has_more = self._database.run(self._roll_up, Deadline.after(_SECONDS))
        if not has_more and monotonic() >= self._purge_at:
            self._purge_at = monotonic() + _PURGE_SECONDS
            purge(self._database)
        return has_more

    def _roll_up(self, connection: Connection) -> bool:
        there = connection.execute(_WHERE_IT_STANDS, {"lock": int(Lock.ROLL_UP), "minute": MINUTE}).one()
        self.next_seconds = there.seconds_left + _AFTER_SECONDS
        to_do = self._to_do(there) if there.mine else None
        if to_do is None:
            return False
        count(connection, to_do.begin, to_do.end, is_now=not to_do.has_more)
        self._counted_upto = to_do.end
        return to_do.has_more

    def _to_do(self, there: Row[Any]) -> _Slice | None:
        """What nobody has counted yet, and the minutes before it again; none when there is nothing.

        A clock that was set back makes minutes of what was counted already: these are counted again.
        """
        upto: datetime = there.upto
        newest = upto - _MINUTE
        last = min(there.last or upto - _LONGEST_GAP, newest)
        if there.last == newest or self._counted_upto == upto:
            return None
        first_missing = max(last + _MINUTE, upto - _LONGEST_GAP) if last < newest else newest
        begin = first_missing - _AGAIN
        end = min(begin + _SLICE, upto)
        return _Slice(begin, end, has_more=end < upto)


def count(connection: Connection, begin: datetime, end: datetime, *, is_now: bool) -> None:
    """Write down what happened in these whole minutes, and with `is_now` what stands at the end of the last one."""
    minutes = {"begin": begin, "end": end}
    connection.execute(COUNT, minutes | {"minute": MINUTE, "look_back": _LOOK_BACK, "bounds": list(BOUNDS)})
    if is_now:
        connection.execute(STAND, {"minute": MINUTE, "begins_at": end - _MINUTE})
    for finer, coarser in pairwise(SPANS):
        length = timedelta(seconds=coarser)
        connection.execute(MERGE, minutes | {"finer": finer, "coarser": coarser, "length": length})
        if place(begin, coarser) == place(end, coarser):
            break  # none of them is over, and what is coarser still can wait until one is


def purge(database: Database) -> None:
    """Delete what has been kept long enough."""
    limits = {"spans": list(KEPT_SECONDS), "kept": list(KEPT_SECONDS.values())}
    deleted = database.run(lambda connection: connection.execute(_PURGE, limits).rowcount)
    if deleted:
        log.info("history.purged", rows=deleted)
