"""The model's statements write what the real ones write: the same random story, told to both, compared at each step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from threading import Event
from typing import Any, TypeVar

import pytest

from assistance.broker.contract import Received
from assistance.broker.topology import DEAD_LETTER_QUEUE
from assistance.conciliation.stragglers import Conciliation
from assistance.conciliation.timers import Timers
from assistance.deadletters.recorder import Recorder
from assistance.deliveries import claim as real_claims
from assistance.deliveries.replay import replay
from assistance.deliveries.resolve import Resolution, resolve
from assistance.deliveries.settle import Cancel, Policy, Standing, settle_look, settle_send
from assistance.deliveries.transition import conclude
from assistance.domain import hint as wire
from assistance.domain.delivery import OnUnknown
from assistance.domain.outcome import (
    CannotTell,
    Delivered,
    Found,
    NotFound,
    Rejected,
    RejectionReason,
    RetryLater,
    Unknown,
)
from assistance.domain.route import Route, Step
from assistance.resilience.retry_schedule import RetrySchedule
from tests import builders
from tests.simulation import nets, statements
from tests.simulation.actors import insert_request
from tests.simulation.design import CHECK_AFTER, LEASE, REAL
from tests.simulation.fallback import append, begin_due_steps
from tests.simulation.rows import Hint
from tests.simulation.scheduler import Steps, complete
from tests.simulation.store import Transaction
from tests.simulation.world import Client, World

Result = TypeVar("Result")

#: All times of a story are multiples of this, and no delay below is one: rounding decides nothing.
TICK = 5.3
#: A clock of the story's own. Every `now()` of a statement finds it before PostgreSQL's, once the search path says so.
STORY_CLOCK = """
    CREATE SCHEMA story;
    CREATE TABLE story.clock AS SELECT timestamptz '2030-01-01 00:00:00+00' AS instant;
    CREATE FUNCTION story.now() RETURNS timestamptz STABLE LANGUAGE sql AS 'SELECT instant FROM story.clock';
    DO $$
    DECLARE it record;
    BEGIN
        FOR it IN SELECT table_name AS t, column_name AS c FROM information_schema.columns
                  WHERE table_schema = 'public' AND column_default = 'now()' LOOP
            EXECUTE format('ALTER TABLE public.%I ALTER COLUMN %I SET DEFAULT story.now()', it.t, it.c);
        END LOOP;
        EXECUTE format('ALTER DATABASE %I SET search_path = story, public, pg_catalog', current_database());
    END $$
"""
RETRY = RetrySchedule(delays=(4.0, 10.0, 30.0), give_up_after=93.0, jitter=0)
RESEND = Policy(retry=RETRY, settle_seconds=3.0, looks=2)
HOLD = Policy(retry=RETRY, settle_seconds=3.0, looks=2, on_unknown=OnUnknown.HOLD)
SENDS = (
    Delivered(receipt={"id": "1"}),
    RetryLater(code="busy", detail="Busy."),
    RetryLater(code="limited", detail="Slow.", retry_after_seconds=7.0),
    Unknown(code="lost", detail="Lost.", answered=False),
    Unknown(code="lost", detail="Lost.", answered=False),
    Rejected(code="content", detail="Strange.", reason=RejectionReason.CONTENT),
)
LOOKS = (
    Found(receipt={"id": "1"}),
    NotFound(),
    NotFound(),
    CannotTell(code="no_lookup", detail="Cannot."),
    CannotTell(code="down", detail="Down.", look_again=True),
)
ROUTES = {
    "one": Route(to=("people",)),
    "two": Route(to=("people", "inbox")),
    "steps": Route(to=("people",), fallback=(Step(to=("inbox",), after_seconds=20.0),), last_resort=("night",)),
}
CHANNELS = ("people", "inbox", "night")


class Story:
    """One request in a real database and in the model, and what is done to both."""

    def __init__(self, real: builders.World, topic: str, seed: int) -> None:
        self.real = real
        self.random = Random(seed)
        self.model = World(seed, REAL)
        self.leases: list[tuple[real_claims.Lease, statements.Lease, bool]] = []
        self.request = real.submit(topic).id
        real.execute("UPDATE deliveries SET check_at = created_at + make_interval(secs => :s)", s=CHECK_AFTER)
        client = Client(number=1, plan=ROUTES[topic].steps, key=None, body=1)

        def submit(transaction: Transaction) -> Steps[None]:
            for hint in insert_request(self.model, transaction, client, 10):
                yield from append(transaction, hint, 0.0)

        self.in_model(submit)

    def in_model(self, work: Callable[[Transaction], Steps[Result]]) -> Result:
        transaction = self.model.store.begin()
        result = complete(work(transaction))
        transaction.commit()
        return result

    def let_time_pass(self, seconds: float) -> None:
        self.model.scheduler.now += seconds
        self.real.execute("UPDATE story.clock SET instant = instant + make_interval(secs => :s)", s=seconds)

    def hint_of(self, channel: str) -> tuple[wire.Hint, Hint] | None:
        """The hint of a delivery in both worlds, sometimes of the series before."""
        rows = [row for row in self.model.store.deliveries.values() if row.channel == channel]
        if not rows:
            return None
        hint = nets.hint_for(rows[0])
        stale = hint.series > 1 and self.random.random() < 0.2
        series = hint.series - stale
        real = self.real.hint(self.request, channel)
        real = wire.Hint(
            delivery_id=real.delivery_id,
            request_id=real.request_id,
            channel=channel,
            series=series,
            attempt=hint.attempt,
        )
        return real, hint._replace(series=series)

    def claim(self) -> None:
        hints = self.hint_of(self.random.choice(CHANNELS))
        if hints is None:
            return
        real = self.real.claim(hints[0], lease_seconds=LEASE)
        model = self.in_model(lambda transaction: statements.claim(REAL, transaction, hints[1]))
        if isinstance(model, statements.Nothing):
            reason = "dead" if isinstance(real, real_claims.AlreadyDead) else getattr(real, "reason", real)
            assert reason == model.reason
            return
        assert isinstance(real, real_claims.ToSend | real_claims.ToLookUp)
        assert real.lease.elapsed_seconds == pytest.approx(model.lease.elapsed, abs=0.001)
        assert (real.lease.attempt, real.lease.refunded, real.lease.looks, real.lease.in_steps) == (
            model.lease.attempt,
            model.lease.refunded,
            model.lease.looks,
            model.lease.in_steps,
        )
        if isinstance(model, statements.ToSend):
            assert isinstance(real, real_claims.ToSend)
            assert real.may_repeat == model.may_repeat
        else:
            assert isinstance(real, real_claims.ToLookUp)
            assert (real.late_receipt is not None, real.looker_died) == (model.late_receipt, model.looker_died)
        self.leases.append((real.lease, model.lease, isinstance(model, statements.ToSend)))

    def settle(self) -> None:
        """End one of the open leases, perhaps one that was taken over long ago."""
        if not self.leases:
            return
        real, model, is_send = self.leases.pop(self.random.randrange(len(self.leases)))
        elapsed = model.elapsed + self.model.scheduler.now - model.claimed_at
        standing = Standing(spent=model.attempt - model.refunded, looks=model.looks, elapsed_seconds=elapsed)
        policy = HOLD if real.hint.channel == "inbox" else RESEND
        outcome = self.random.choice(SENDS) if is_send else None
        if outcome is not None:
            settlement = settle_send(outcome, standing, policy, 0.5)
        else:
            settlement = settle_look(self.random.choice(LOOKS), standing, policy, 0.5)
        concluded = self.real.database.run(
            lambda c: conclude(c, real, settlement, outcome, actor="tester", check_after=CHECK_AFTER)
        )
        written = self.in_model(lambda t: statements.conclude(REAL, t, model, settlement, outcome))
        assert concluded.kept == (written is not None)
        assert concluded.cancelled == isinstance(written, Cancel)

    def publish(self) -> None:
        self.real.execute("DELETE FROM outbox WHERE available_at <= now()")
        for key, row in list(self.model.store.outbox.items()):
            if row.available_at <= self.model.scheduler.now:
                del self.model.store.outbox[key]

    def conciliate(self) -> None:
        Conciliation(self.real.database, CHANNELS, check_after_seconds=CHECK_AFTER).one_pass()
        Timers(self.real.database, worker="tester", check_after_seconds=CHECK_AFTER).one_pass()
        self.in_model(nets.expire_leases)
        self.in_model(nets.rearm)
        self.in_model(begin_due_steps)

    def record(self) -> None:
        hints = self.hint_of(self.random.choice(CHANNELS))
        if hints is None:
            return
        received = Received(
            queue=DEAD_LETTER_QUEUE,
            message_id=str(hints[0].delivery_id),
            type=wire.HINT_TYPE,
            body=wire.encode(hints[0]),
            headers={},
            redelivered=False,
        )
        Recorder(self.real.database, Event()).handle(received)
        self.in_model(lambda transaction: nets.record(transaction, hints[1]))

    def act_as_operator(self) -> None:
        """Settle what is held, else replay a letter."""
        resolution = self.random.choice(list(Resolution))
        store = self.model.store
        held = next((row for row in store.deliveries.values() if row.held_at is not None), None)
        letter = next((number for number, x in store.letters.items() if x.resolution is None), None)
        if held is not None:
            delivery = self.real.hint(self.request, held.channel).delivery_id
            self.real.database.run(lambda c: resolve(c, delivery, resolution, actor="tester", check_after=CHECK_AFTER))
            assert self.in_model(partial(nets.resolve, REAL, held.id, resolution))
        elif letter is not None:
            opened = self.real.rows("SELECT id FROM dead_letters WHERE resolved_at IS NULL ORDER BY id")[0].id
            self.real.database.run(lambda c: replay(c, opened, actor="tester", check_after=CHECK_AFTER))
            assert self.in_model(partial(nets.replay, REAL, letter))

    def compare(self, told: str) -> None:
        """Every row that decides something is the same in both."""
        real, model = _rows_of_database(self.real), _rows_of_model(self.model)
        for table, rows in model.items():
            assert real[table] == rows, f"{table} after {told}"


def _rows_of_model(world: World) -> dict[str, list[tuple[Any, ...]]]:
    store, now = world.store, world.scheduler.now
    channel_of = {row.id: row.channel for row in store.deliveries.values()}
    deliveries = [
        (row.channel, row.step, row.state, row.series, row.attempt, row.refunded, row.looks, row.reconciled,
         row.lease_token is not None, row.held_at is not None, row.may_repeat, row.receipt, row.error,
         None if row.check_at is None else _near(row.check_at - now),
         None if row.check_at is None else _near(row.next_attempt_at - now))
        for row in store.deliveries.values()
    ]  # fmt: skip
    return {
        "deliveries": sorted(deliveries, key=str),
        "attempts": sorted((channel_of[k[0]], k[1], k[2], a.outcome, a.receipt) for k, a in store.attempts.items()),
        "outbox": sorted((channel_of[k[0]], k[1], k[2], _near(o.available_at - now)) for k, o in store.outbox.items()),
        "dead_letters": [(channel_of[x.delivery], x.series, x.reason, x.resolution) for x in store.letters.values()],
        "requests": [(row.status, row.version, row.ended) for row in store.requests.values()],
        "timers": [(timer.step, _near(timer.due_at - now)) for timer in store.timers.values()],
    }


def _rows_of_database(real: builders.World) -> dict[str, list[tuple[Any, ...]]]:
    deliveries = real.rows(
        """
        SELECT channel, step, state, series, attempt, refunded, looks, reconciled, lease_token IS NOT NULL AS leased,
               held_at IS NOT NULL AS held, may_repeat, receipt IS NOT NULL AS receipt, last_error_code,
               extract(epoch FROM check_at - now()) AS check_in,
               CASE WHEN check_at IS NOT NULL THEN extract(epoch FROM next_attempt_at - now()) END AS due_in
        FROM deliveries"""
    )
    attempts = real.rows("""
        SELECT d.channel, a.series, a.number, a.outcome, a.receipt IS NOT NULL AS receipt
        FROM attempts a JOIN deliveries d ON d.id = a.delivery_id""")
    outbox = real.rows(
        """
        SELECT channel, series, attempt, extract(epoch FROM available_at - now()) AS due_in FROM outbox"""
    )
    letters = real.rows("SELECT channel, series, reason, resolution FROM dead_letters ORDER BY id")
    requests = real.rows("SELECT status, state_version, ended_at IS NOT NULL AS ended FROM requests")
    timers = real.rows("SELECT data ->> 'step' AS step, extract(epoch FROM due_at - now()) AS due_in FROM timers")
    return {
        "deliveries": sorted(((*row[:-2], _near(row.check_in), _near(row.due_in)) for row in deliveries), key=str),
        "attempts": sorted(tuple(row) for row in attempts),
        "outbox": sorted((row.channel, row.series, row.attempt, _near(row.due_in)) for row in outbox),
        "dead_letters": [tuple(row) for row in letters],
        "requests": [tuple(row) for row in requests],
        "timers": [(int(row.step), _near(row.due_in)) for row in timers],
    }


def _near(seconds: Any) -> Any:
    return None if seconds is None else pytest.approx(float(seconds), abs=0.001)


@pytest.fixture
def real(database_url: str) -> Iterator[builders.World]:
    """A database whose time is the story's."""
    setting_up = builders.World(database_url)
    setting_up.execute(STORY_CLOCK)
    setting_up.close()
    world = builders.World(database_url, ROUTES)
    yield world
    world.close()


@pytest.mark.parametrize("seed", range(9))
def test_the_model_writes_what_postgresql_writes(real: builders.World, seed: int) -> None:
    story = Story(real, list(ROUTES)[seed % len(ROUTES)], seed)
    told: list[str] = []
    for _ in range(40):
        story.let_time_pass(TICK * story.random.choice((0, 0, 1, 1, 2, 6)))
        deeds = (story.claim, story.claim, story.settle, story.settle, story.conciliate, story.publish)
        deed = story.random.choice((*deeds, story.record, story.act_as_operator))
        told.append(f"{story.model.scheduler.now:g}: {deed.__name__}")
        deed()
        story.compare("; ".join(told))
