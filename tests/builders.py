"""Builders for tests of the flow: a configuration, scripted channels, and requests in a real database."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from threading import Event, Lock
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Connection, Row, select, text

from assistance.broker.contract import Subscription
from assistance.broker.memory import MemoryBroker
from assistance.broker.topology import DEAD_LETTER_QUEUE, queue_of
from assistance.channels.contract import Capabilities, Channel, ChannelType, DeliveryKey, Health, Rendered, View
from assistance.channels.options import ChannelOptions
from assistance.conciliation.stragglers import Conciliation
from assistance.conciliation.timers import Timers
from assistance.configuration import ChannelSettings, Configuration
from assistance.consumer.deliver import Deliverer
from assistance.consumer.gate import Gate
from assistance.consumer.shared import SharedTransactions, Times
from assistance.consumer.watch import Watch, Watched
from assistance.deadletters.recorder import Recorder
from assistance.deliveries.claim import claim
from assistance.deliveries.lease import Claim, Lease
from assistance.deliveries.settle import Policy, Settlement, Standing, settle_look, settle_send
from assistance.deliveries.transition import Concluded, conclude, hint_for
from assistance.domain.answers import Accepted, IdempotencyKey
from assistance.domain.delivery import Purpose
from assistance.domain.hint import Hint
from assistance.domain.outcome import CannotTell, Delivered, Lookup, Outcome
from assistance.domain.request import Author, Submission
from assistance.domain.route import Route
from assistance.intake.acts import Acts
from assistance.intake.submit import Intake
from assistance.operating.deeds import record_cancel
from assistance.relay.publish import Relay
from assistance.resilience.retry_schedule import RetrySchedule
from assistance.runtime.clock import Deadline
from assistance.storage.database import Database
from assistance.storage.tables import deliveries, requests

Result = TypeVar("Result")
SendStep = Outcome | Exception | Callable[[], Outcome]
LookStep = Lookup | Exception

#: Retries that follow at once, so that a test waits for nothing.
AT_ONCE = RetrySchedule(delays=(0.0,), give_up_after=3600, jitter=0)
RECEIPT = Delivered(receipt={"id": "r-1"})
CHECK_AFTER = 300.0


class ScriptedChannel:
    """Answers what the test wrote down, one step after the other; the last step counts for ever."""

    def __init__(self, *sends: SendStep, looks: Sequence[LookStep] = ()) -> None:
        self.sent: list[DeliveryKey] = []
        self.looked: list[tuple[DeliveryKey, datetime]] = []
        self._sends = list(sends or (RECEIPT,))
        self._looks = list(looks or (CannotTell(code="no_lookup", detail="This channel cannot be looked up."),))
        self._lock = Lock()

    @property
    def destination(self) -> Mapping[str, Any]:
        return {"to": "people"}

    def render(self, view: View) -> Rendered:
        return Rendered(text=view.request.description, content={"ref": view.request.ref})

    def send(self, rendered: Rendered, destination: Mapping[str, Any], key: DeliveryKey, deadline: Deadline) -> Outcome:
        with self._lock:
            self.sent.append(key)
            step = self._sends.pop(0) if len(self._sends) > 1 else self._sends[0]
        if isinstance(step, Exception):
            raise step
        return step() if callable(step) else step

    def lookup(self, destination: Mapping[str, Any], key: DeliveryKey, since: datetime, deadline: Deadline) -> Lookup:
        with self._lock:
            self.looked.append((key, since))
            step = self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]
        if isinstance(step, Exception):
            raise step
        return step

    def check(self, deadline: Deadline) -> Health:
        return Health()


SCRIPTED = ChannelType(
    name="scripted",
    capabilities=Capabilities(lookup=True),
    options=ChannelOptions,
    build=lambda _options: ScriptedChannel(),
)


def configuration(
    topics: Mapping[str, Sequence[str] | Route] | None = None, *, retry: RetrySchedule = AT_ONCE, looks: int = 2
) -> Configuration:
    """Topics and their channels, all of the scripted type; without arguments `help` goes to `people`."""
    routes = {
        topic: targets if isinstance(targets, Route) else Route(to=tuple(targets))
        for topic, targets in (topics or {"help": ("people",)}).items()
    }
    names = {name for route in routes.values() for step in route.steps for name in step.to}
    channels = {
        name: ChannelSettings(
            name=name,
            type=SCRIPTED,
            options={},
            retry=retry,
            settle_seconds=0.001,
            looks=looks,
            timeout_seconds=5,
            probe_after_seconds=0.1,
        )
        for name in sorted(names)
    }
    return Configuration(channels=channels, topics=routes, digest="sha256:test")


def eventually(condition: Callable[[], Result], seconds: float = 15.0) -> Result:
    """The first true value of `condition`; fails when none comes in time."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"this did not come true within {seconds} s"
        time.sleep(0.005)
    return found


class World:
    """One installation's database, with short words for what tests do to it."""

    def __init__(
        self,
        url: str,
        topics: Mapping[str, Sequence[str] | Route] | None = None,
        *,
        retry: RetrySchedule = AT_ONCE,
        outbox_limit: int = 1_000_000,
        client_open_requests: int = 10_000,
        deadline_seconds: float = 20.0,
    ) -> None:
        self.url = url
        self.configuration = configuration(topics, retry=retry)
        self.database = Database(url, pool_size=20, deadline_seconds=deadline_seconds)
        self.wake_ups = 0
        self.intake = Intake(
            self.database,
            self.configuration,
            wake_relay=self._count_wake_up,
            check_after_seconds=CHECK_AFTER,
            outbox_limit=outbox_limit,
            client_open_requests=client_open_requests,
        )

        self.acts = Acts(
            self.database,
            wake_relay=self._count_wake_up,
            check_after_seconds=CHECK_AFTER,
            record_cancel=record_cancel,
        )

    def _count_wake_up(self) -> None:
        self.wake_ups += 1

    def close(self) -> None:
        self.database.close()

    def submit(self, topic: str = "help", key: IdempotencyKey | None = None, **said: Any) -> Accepted:
        submission = Submission(topic=topic, **{"description": "The printer is on fire.", **said})
        return self.intake.submit(submission, key, Deadline.after(20), client="")

    def add(self, request_id: UUID, text: str, author: Author = Author.BOT, key: IdempotencyKey | None = None) -> Any:
        return self.acts.add(request_id, text, author, key, Deadline.after(20), client="")

    def cancel(self, request_id: UUID, reason: str | None = None) -> bool:
        return self.acts.cancel(request_id, reason, Deadline.after(20), client="")

    def event_types(self, request_id: UUID) -> list[str]:
        rows = self.rows("SELECT type FROM events WHERE request_id = :id ORDER BY version", id=request_id)
        return [row.type.removeprefix("assistance.") for row in rows]

    def execute(self, statement: str, **values: Any) -> int:
        with self.database.transaction() as connection:
            return connection.execute(text(statement), values).rowcount

    def rows(self, statement: str, **values: Any) -> list[Row[Any]]:
        with self.database.transaction() as connection:
            return list(connection.execute(text(statement), values))

    def count(self, table: str, condition: str = "true") -> int:
        return int(self.rows(f"SELECT count(*) AS n FROM {table} WHERE {condition}")[0].n)

    def request(self, request_id: UUID) -> Row[Any]:
        with self.database.transaction() as connection:
            return connection.execute(select(requests).where(requests.c.id == request_id)).one()

    def delivery(self, request_id: UUID, channel: str = "people") -> Row[Any]:
        with self.database.transaction() as connection:
            this = (deliveries.c.request_id == request_id, deliveries.c.channel == channel)
            return connection.execute(select(deliveries).where(*this, deliveries.c.purpose == Purpose.NOTIFY)).one()

    def hint(self, request_id: UUID, channel: str = "people") -> Hint:
        return hint_for(self.delivery(request_id, channel))

    def claim(self, hint: Hint, *, channel: str | None = None, lease_seconds: float = 60.0) -> Claim:
        return self.database.run(
            lambda connection: claim(
                connection, hint, channel or hint.channel, worker="tester", lease_seconds=lease_seconds
            )
        )

    def take(self, request_id: UUID, channel: str = "people") -> Any:
        """Claim what must be claimable now: a `ToSend` or a `ToLookUp`."""
        claimed = self.claim(self.hint(request_id, channel))
        assert hasattr(claimed, "lease"), claimed
        return claimed

    def write(self, lease: Lease, settlement: Settlement, outcome: Outcome | None) -> Concluded:
        return self.database.run(
            lambda connection: conclude(connection, lease, settlement, outcome, actor="tester", check_after=CHECK_AFTER)
        )

    def end(self, lease: Lease, outcome: Outcome) -> Concluded:
        """Settle a send as the consumer would."""
        standing = Standing(spent=lease.spent, looks=0, elapsed_seconds=lease.elapsed_now)
        return self.write(lease, settle_send(outcome, standing, self.policy, 0.5), outcome)

    def end_look(self, lease: Lease, lookup: Lookup) -> Concluded:
        """Settle a look-up as the consumer would."""
        standing = Standing(spent=lease.spent, looks=lease.looks, elapsed_seconds=lease.elapsed_now)
        return self.write(lease, settle_look(lookup, standing, self.policy, 0.5), None)

    def deliver(self, request_id: UUID, outcome: Outcome = RECEIPT, channel: str = "people") -> Concluded:
        """Claim and send once."""
        return self.end(self.take(request_id, channel).lease, outcome)

    @property
    def policy(self) -> Policy:
        settings = next(iter(self.configuration.channels.values()))
        return Policy(retry=settings.retry, settle_seconds=0.0, looks=settings.looks, on_unknown=settings.on_unknown)

    def end_leases(self) -> None:
        """Let every lease have run out a second ago."""
        self.execute(
            "UPDATE deliveries SET lease_until = now() - interval '1 s', check_at = now() - interval '1 s'"
            " WHERE lease_token IS NOT NULL"
        )

    def letters(self) -> list[Row[Any]]:
        return self.rows("SELECT * FROM dead_letters ORDER BY id")

    def conciliation(self, *channels: str) -> Conciliation:
        names = channels or tuple(self.configuration.channels)
        return Conciliation(self.database, names, check_after_seconds=CHECK_AFTER)

    def fire_timers(self) -> None:
        """What the conciliation process does every second."""
        while Timers(self.database, worker="timekeeper", check_after_seconds=CHECK_AFTER).one_pass():
            pass


class Line:
    """Relay, consumers and recorder of a world over the in-memory broker; `stop` it at the end."""

    def __init__(self, world: World, channels: Mapping[str, Channel], *, lease: float = 60.0, workers: int = 2) -> None:
        self.world = world
        self.stopping = Event()
        self.broker = MemoryBroker(world.configuration.channels)
        self.relay = Relay(world.database, self.broker.publisher(), world.configuration.channels)
        alarm = Event()
        gates = {name: Gate(name, alarm) for name in channels}
        times = Times(lease=lease, check_after=CHECK_AFTER)
        shared = SharedTransactions(
            world.database, "tester", times, lambda: self.subscriber.in_hand(set(map(queue_of, channels)))
        )
        self.deliverers = {
            name: Deliverer(
                world.database,
                world.configuration.channels[name],
                channel,
                gate=gates[name],
                worker="tester",
                times=times,
                shared=shared,
                stop=self.stopping,
            )
            for name, channel in channels.items()
        }
        recorder = Recorder(world.database, self.stopping)
        self.subscriber = self.broker.subscriber()
        self.watch = Watch(
            world.database,
            self.subscriber,
            [
                Watched(gate=gates[name], settings=world.configuration.channels[name], channel=channel, workers=workers)
                for name, channel in channels.items()
            ],
            alarm,
        )
        self.subscriber.start(
            [
                *(
                    Subscription(queue=queue_of(name), workers=workers, handler=deliverer.handle)
                    for name, deliverer in self.deliverers.items()
                ),
                Subscription(queue=DEAD_LETTER_QUEUE, workers=1, handler=recorder.handle),
            ]
        )

    def run_until(self, condition: Callable[[], Result], seconds: float = 15.0) -> Result:
        """Publish what becomes due, and watch the channels, until `condition` is true."""

        def step() -> Result:
            self.relay.one_pass()
            self.watch.one_pass()
            return condition()

        return eventually(step, seconds)

    def stop(self) -> None:
        self.stopping.set()
        assert self.subscriber.stop(10)


def in_transaction(database: Database, work: Callable[[Connection], Result]) -> Result:
    """Run `work` once, without the retries of `Database.run`."""
    with database.transaction() as connection:
        return work(connection)
