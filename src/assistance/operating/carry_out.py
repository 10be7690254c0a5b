"""Carries operations out: a batch at a time, at the operation's pace, with its progress in the same transaction.

Whoever dies in the middle leaves nothing half done: the acts of a batch and the progress that counts them are committed
together. A row lock makes sure that one process works on an operation at a time; any number may run.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Connection, Interval, Row, Update, func, select, update

from assistance.configuration import Configuration
from assistance.deliveries.request_state import lock_requests
from assistance.deliveries.resolve import Resolution
from assistance.domain.delivery import CALLBACKS
from assistance.domain.errors import (
    AssistanceError,
    DatabaseUnavailable,
    NotCancellable,
    NotHeld,
    NotReroutable,
    OperationOver,
    UnknownChannel,
)
from assistance.domain.operator import Actor
from assistance.operating import deeds
from assistance.operating.acts import REFUSALS, SourceReplay
from assistance.operating.deeds import Order
from assistance.operating.jobs import OperationState
from assistance.operating.targets import Kind, Target, targets_of
from assistance.runtime.faults import fault_point
from assistance.storage.database import Database
from assistance.storage.expressions import duration, seconds
from assistance.storage.plain import plain_text
from assistance.storage.tables import operations

log = structlog.get_logger()

#: Their requests stay locked until the transaction ends, and nobody can settle them meanwhile.
_BATCH = 25
#: What was not used of the pace is lost after so long: an operation that waited does not rush afterwards.
_SAVED_SECONDS = func.greatest(1.0, 1.0 / operations.c.per_second)
_SAVED = func.make_interval(0, 0, 0, 0, 0, 0, _SAVED_SECONDS, type_=Interval)
_REFUSALS = (*REFUSALS, NotCancellable, NotReroutable, NotHeld)
#: Sentences that name a thing are the same sentence about another one.
_NAMES = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\bA-[0-9A-Z]{6}\b|\b\d+\b")
_MOST_SENTENCES = 20
_OTHERS = "other reasons"

_ANY_OPEN = select(select(operations).where(operations.c.ended_at.is_(None)).exists())
#: How many things the pace allows now; rounding must not keep the last bit of one from ever coming.
_ROUNDING = 1e-3
_ALLOWED = (
    func.least(_SAVED_SECONDS, seconds(func.now() - operations.c.updated_at)) * operations.c.per_second + _ROUNDING
)


@dataclass(kw_only=True, slots=True)
class Batch:
    """What one transaction did, how far it came, and whether nothing is left."""

    taken: int = 0
    done: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    position: str | None = None
    is_last: bool = False


class Jobs:
    """Carries out what operators ordered. Any number may run at once, in any process; nothing is done twice."""

    def __init__(
        self,
        database: Database,
        configuration: Callable[[], Configuration],
        *,
        check_after_seconds: float,
        replay_of_source: SourceReplay,
    ) -> None:
        self._database = database
        self._configuration = configuration
        self._check_after = check_after_seconds
        self._replay_of_source = replay_of_source

    def one_pass(self) -> bool:
        """Do one batch of one operation; true when more may be done at once. While nothing is open, it only looks.

        An operation that cannot go on has failed, and says why; it may be resumed.
        """
        with self._database.look() as connection:
            if not connection.scalar(_ANY_OPEN):
                return False
        taken: list[UUID] = []
        try:
            return self._work(taken)
        except DatabaseUnavailable:
            raise
        except Exception as error:
            # One that breaks must not keep the others from being carried out.
            log.exception("operation.failed", operation=[str(operation_id) for operation_id in taken])
            if not taken:
                raise
            self._fail(taken[-1], error)
            return True

    def _work(self, taken: list[UUID]) -> bool:
        def work(connection: Connection) -> tuple[Row[Any, Any], Batch, Target | None] | None:
            operation = _claim(connection)
            if operation is None:
                return None
            taken.append(operation.id)
            batch, alone = self._batch(connection, operation)
            connection.execute(_progress(operation, batch))
            fault_point("operations.before_commit")
            return operation, batch, alone

        worked = self._database.run(work)
        if worked is None:
            return False
        fault_point("operations.after_commit")
        operation, batch, alone = worked
        if alone is not None:
            self._replay_alone(operation, alone, batch.position)
        if batch.is_last:
            log.info("operation.done", operation=str(operation.id), kind=operation.kind)
        return True

    def _batch(self, connection: Connection, operation: Row[Any, Any]) -> tuple[Batch, Target | None]:
        """Do what comes next, up to the first message of a source; that is returned, for a transaction of its own."""
        kind = Kind(operation.kind)
        targets = targets_of(kind, operation.filter)
        limit = min(_BATCH, int(operation.allowed))
        found = targets.next(connection, operation.position, operation.upper_bound, limit)
        batch, todo, alone = Batch(position=found.position, is_last=found.is_last), list(found.targets), None
        for index, target in enumerate(todo):
            if kind is Kind.REPLAY and target.is_of_source:
                alone, todo = target, todo[:index]
                batch.position, batch.is_last = (todo[-1].position if todo else operation.position), False
                break
        act, order = self._act(operation, targets.channel), self._order(operation)
        lock_requests(connection, {target.request_id for target in todo if target.request_id is not None})
        for target in todo:
            batch.taken += 1
            try:
                with connection.begin_nested():
                    act(connection, target.subject, order)
            except _REFUSALS as error:
                batch.refused[_sentence(error)] += 1
            else:
                batch.done += 1
        return batch, alone

    def _act(self, operation: Row[Any, Any], channel: str | None) -> Callable[[Connection, Any, Order], object]:
        """What is done to each thing. Raises `UnknownChannel` when the channel left the configuration."""
        match Kind(operation.kind):
            case Kind.REPLAY:
                return deeds.replay
            case Kind.DISCARD:
                return deeds.discard
            case Kind.CANCEL:
                return deeds.cancel
            case Kind.REROUTE:
                target = operation.parameters["to"]
                if target not in self._configuration().channels or target == CALLBACKS:
                    raise UnknownChannel(f"Channel {target!r} is not in the configuration file.")
                return lambda connection, subject, order: deeds.reroute(
                    connection, subject, target, order, channel=channel
                )
            case Kind.RESOLVE:
                resolution = Resolution(operation.parameters["resolution"])
                return lambda connection, subject, order: deeds.resolve_all(
                    connection, subject, resolution, order, channel=channel
                )

    def _order(self, operation: Row[Any, Any]) -> Order:
        return Order(
            actor=Actor(name=operation.actor, via=operation.via, request_id=operation.request_id),
            check_after=self._check_after,
            reason=operation.reason,
            operation_id=operation.id,
        )

    def _replay_alone(self, operation: Row[Any, Any], target: Target, position: str | None) -> None:
        """Replay the message of a source, which is a transaction of its own; nobody else may have come to it since."""

        def also(connection: Connection) -> None:
            row = _still_at(connection, operation.id, position)
            connection.execute(_progress(row, Batch(taken=1, done=1, position=target.position)))
            deeds.record_source_replay(connection, target.subject, self._order(operation))

        try:
            self._replay_of_source(target.subject, operation.actor, also)
        except OperationOver:
            return
        except _REFUSALS as error:
            refused = Batch(taken=1, refused=Counter([_sentence(error)]), position=target.position)
            with suppress(OperationOver):
                self._database.run(
                    lambda connection: connection.execute(
                        _progress(_still_at(connection, operation.id, position), refused)
                    )
                )

    def _fail(self, operation_id: UUID, error: Exception) -> None:
        said = str(error) if isinstance(error, AssistanceError) else f"It broke off ({type(error).__name__})."
        failed = update(operations).where(operations.c.id == operation_id, operations.c.ended_at.is_(None))
        values = {
            "state": OperationState.FAILED,
            "ended_at": func.now(),
            "updated_at": func.now(),
            "errors": operations.c.errors.op("||")(func.jsonb_build_object(plain_text(said), 1)),
        }
        self._database.run(lambda connection: connection.execute(failed.values(**values)))


def _claim(connection: Connection) -> Row[Any, Any] | None:
    """The open operation that has waited longest, as far as its pace allows something now, locked."""
    claimed = select(operations, _ALLOWED.label("allowed")).where(operations.c.ended_at.is_(None), _ALLOWED >= 1)
    first = claimed.order_by(operations.c.updated_at).limit(1)
    return connection.execute(first.with_for_update(skip_locked=True)).one_or_none()


def _still_at(connection: Connection, operation_id: UUID, position: str | None) -> Row[Any, Any]:
    """The operation, locked. Raises `OperationOver` when it was cancelled, or somebody else went on with it."""
    here = select(operations).where(
        operations.c.id == operation_id,
        operations.c.ended_at.is_(None),
        operations.c.position.is_not_distinct_from(position),
    )
    row = connection.execute(here.with_for_update()).one_or_none()
    if row is None:
        raise OperationOver
    return row


def _progress(operation: Row[Any, Any], batch: Batch) -> Update:
    """Count what a batch did; the operation is locked. The pace is paid by moving `updated_at` on."""
    spent = duration(batch.taken / operation.per_second)
    values: dict[str, Any] = {
        "state": OperationState.DONE if batch.is_last else OperationState.RUNNING,
        "started_at": func.coalesce(operations.c.started_at, func.now()),
        "updated_at": func.greatest(operations.c.updated_at, func.now() - _SAVED) + spent,
        "done": operations.c.done + batch.done,
        "refused": operations.c.refused + batch.refused.total(),
        "errors": _with(operation.errors, batch.refused),
        "position": batch.position,
    }
    if batch.is_last:
        values |= {"ended_at": func.now(), "updated_at": func.now()}
    return update(operations).where(operations.c.id == operation.id).values(**values)


def _with(errors: dict[str, int], more: Counter[str]) -> dict[str, int]:
    """How often each sentence was the answer; of many different ones only the first are told apart."""
    found = dict(errors)
    for sentence, count in more.items():
        name = sentence if sentence in found or len(found) < _MOST_SENTENCES else _OTHERS
        found[name] = found.get(name, 0) + count
    return found


def _sentence(error: AssistanceError) -> str:
    return plain_text(_NAMES.sub("…", str(error)))
