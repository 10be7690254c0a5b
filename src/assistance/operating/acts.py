"""Single acts of operators, each in one transaction with its line in the audit log."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection

from assistance.configuration import Configuration
from assistance.deliveries.channel_states import PauseCause, states_of
from assistance.deliveries.channel_states import pause as pause_channel
from assistance.deliveries.channel_states import resume as resume_channel
from assistance.deliveries.reroute import Reroute, Rerouted
from assistance.deliveries.reroute import reroute as move_backlog
from assistance.deliveries.resolve import Resolution
from assistance.domain.delivery import CALLBACKS
from assistance.domain.errors import NotReplayable, OutboxFull, QuotaExceeded, UnknownChannel
from assistance.domain.operator import Actor
from assistance.operating import deeds
from assistance.operating.audit import Entry, record, record_each
from assistance.operating.deeds import Order
from assistance.operating.sent_test import SentTest, send_test
from assistance.storage.database import Database

#: What may keep a dead letter from being replayed now; its sentence is for the operator.
REFUSALS = (NotReplayable, OutboxFull, QuotaExceeded)


#: Makes the message of a signed source a request, for an actor of this name, in a transaction of its own in which the
#: last argument writes as well. Raises what `sources.replay.LetterReplay.replay` raises.
SourceReplay = Callable[[int, str, Callable[[Connection], None]], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How many things were done, and a sentence for each that was refused."""

    done: int
    refused: tuple[str, ...] = ()


class Acts:
    """What operators do to one thing, or to a few that they chose. Thread-safe.

    All raise `DatabaseUnavailable` and `CommitUnknown`. The relay's poll finds what begins.
    """

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

    def replay(
        self, letter_ids: Collection[int], actor: Actor, *, reason: str | None = None, per_second: float = 10.0
    ) -> Outcome:
        """Put dead letters back, so many a second; each is done or refused by itself."""
        sentences = list(self.replay_each(letter_ids, actor, reason=reason, per_second=per_second))
        return _outcome(sentences)

    def replay_each(
        self, letter_ids: Collection[int], actor: Actor, *, reason: str | None = None, per_second: float = 10.0
    ) -> Iterator[str | None]:
        """The same, one after the other: none for each that is done, a sentence for each that is refused.

        Each gets its own due time: the channel is spared even when this is over long before.
        """
        for position, letter_id in enumerate(letter_ids):
            try:
                self._replay_one(letter_id, self._order(actor, reason), position / per_second)
            except REFUSALS as error:
                yield str(error)
            else:
                yield None

    def discard(self, letter_ids: Collection[int], actor: Actor, *, reason: str | None = None) -> Outcome:
        """Close dead letters without sending anything; each is done or refused by itself."""
        order, sentences = self._order(actor, reason), list[str | None]()
        for letter_id in letter_ids:
            try:
                self._database.run(lambda connection, letter=letter_id: deeds.discard(connection, letter, order))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            except NotReplayable as error:
                sentences.append(str(error))
            else:
                sentences.append(None)
        return _outcome(sentences)

    def cancel(self, request_id: UUID, actor: Actor, *, reason: str | None = None) -> bool:
        """Call a request off; false when it is cancelled already.

        Raises `NotCancellable` when it is over, or when there is no such request.
        """
        order = self._order(actor, reason)
        return self._database.run(lambda connection: deeds.cancel(connection, request_id, order))

    def reroute(self, request_id: UUID, target: str, actor: Actor, *, reason: str | None = None) -> Rerouted:
        """Move all that waits of a request to one channel.

        Raises `UnknownChannel`, and `NotReroutable` when nothing of it waits for another one.
        """
        self._must_reach_people(target)
        order = self._order(actor, reason)
        return self._database.run(lambda connection: deeds.reroute(connection, request_id, target, order))

    def reroute_backlog(self, order: Reroute, actor: Actor, *, reason: str | None, limit: int | None) -> Rerouted:
        """Move all that waits for a channel to another one, in transactions of at most 100 requests each.

        Raises `UnknownChannel`.
        """
        self._must_reach_people(order.target)

        def also(connection: Connection, batch: Rerouted) -> None:
            before, after = {"channels": [order.source]}, {"channel": order.target}
            entries = [Entry(request_id, before, after) for request_id in batch.requests]
            record_each(connection, actor, "reroute", "request", entries, reason=reason)

        return move_backlog(self._database, order, limit=limit, also=also)

    def resolve(self, delivery_id: UUID, resolution: Resolution, actor: Actor, *, reason: str | None = None) -> None:
        """Say what became of a held delivery. Raises `NotHeld`."""
        order = self._order(actor, reason)
        self._database.run(lambda connection: deeds.resolve(connection, delivery_id, resolution, order))

    def pause(self, channel: str, actor: Actor, *, reason: str) -> bool:
        """Send nothing on a channel until it is resumed; false when it was paused by an operator already.

        Raises `UnknownChannel`.
        """
        self._must_be_configured(channel)

        def work(connection: Connection) -> bool:
            before = states_of(connection, [channel])[channel].pause_cause
            cause = PauseCause.OPERATOR
            paused = pause_channel(connection, channel, cause=cause, reason=reason, by=actor.name)
            if paused:
                states = {"paused": before}, {"paused": cause}
                record(connection, actor, "pause", "channel", channel, before=states[0], after=states[1], reason=reason)
            return paused

        return self._database.run(work)

    def resume(self, channel: str, actor: Actor, *, reason: str | None = None) -> bool:
        """End a pause, whatever its cause; false when there was none. Raises `UnknownChannel`."""
        self._must_be_configured(channel)

        def work(connection: Connection) -> bool:
            before = {"paused": states_of(connection, [channel])[channel].pause_cause}
            resumed = resume_channel(connection, channel)
            if resumed:
                after = {"paused": None}
                record(connection, actor, "resume", "channel", channel, before=before, after=after, reason=reason)
            return resumed

        return self._database.run(work)

    def test(self, channel: str, actor: Actor) -> SentTest:
        """Send people on a channel a message that says it is a test, as a request of its own.

        Raises `UnknownChannel`; callbacks go to machines and cannot be tested so.
        """
        self._must_reach_people(channel)
        digest = self._configuration().digest

        def work(connection: Connection) -> SentTest:
            sent = send_test(connection, channel, by=actor.name, digest=digest, check_after=self._check_after)
            record(connection, actor, "test", "channel", channel, after={"request": str(sent.id), "ref": sent.ref})
            return sent

        return self._database.run(work)

    def _replay_one(self, letter_id: int, order: Order, delay_seconds: float) -> None:
        with self._database.transaction() as connection:
            of_source = deeds.is_of_source(connection, letter_id)
        if of_source:
            self._replay_of_source(
                letter_id,
                order.actor.name,
                lambda connection: deeds.record_source_replay(connection, letter_id, order),
            )
            return
        self._database.run(lambda connection: deeds.replay(connection, letter_id, order, delay_seconds=delay_seconds))

    def _order(self, actor: Actor, reason: str | None) -> Order:
        return Order(actor=actor, check_after=self._check_after, reason=reason)

    def _must_be_configured(self, channel: str) -> None:
        if channel not in self._configuration().channels:
            raise UnknownChannel(f"Channel {channel!r} is not in the configuration file.")

    def _must_reach_people(self, channel: str) -> None:
        self._must_be_configured(channel)
        if channel == CALLBACKS:
            raise UnknownChannel("Callbacks go to machines: no request can be sent there.")


def _outcome(sentences: Collection[str | None]) -> Outcome:
    refused = tuple(sentence for sentence in sentences if sentence is not None)
    return Outcome(done=len(sentences) - len(refused), refused=refused)
