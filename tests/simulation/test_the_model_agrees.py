"""The model's statements write what the real ones write: the same random story, told to both, compared at each step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from threading import Event
from typing import TypeVar

import pytest

from assistance.broker.contract import Received
from assistance.broker.topology import DEAD_LETTER_QUEUE
from assistance.conciliation.stragglers import Conciliation
from assistance.conciliation.timers import Timers
from assistance.deadletters.recorder import Recorder
from assistance.deliveries import lease as real_leases
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
from tests.simulation.comparison import STORY_CLOCK, rows_of_database, rows_of_model
from tests.simulation.design import CHECK_AFTER, LEASE, REAL
from tests.simulation.fallback import append, begin_due_steps
from tests.simulation.rows import Hint
from tests.simulation.scheduler import Steps, complete
from tests.simulation.store import Transaction
from tests.simulation.world import Client, World

Result = TypeVar("Result")

#: All times of a story are multiples of this, and no delay below is one: rounding decides nothing.
TICK = 5.3
RETRY = RetrySchedule(delays=(4.0, 10.0, 30.0), give_up_after=93.0, jitter=0)
RESEND = Policy(retry=RETRY, settle_seconds=3.0, looks=2)
HOLD = Policy(retry=RETRY, settle_seconds=3.0, looks=2, on_unknown=OnUnknown.HOLD)
_LOST = Unknown(code="lost", detail="Lost.", answered=False)
_BUSY = RetryLater(code="busy", detail="Busy.")
_NO_LOOKUP = CannotTell(code="no_lookup", detail="Cannot.")
SENDS = (
    Delivered(receipt={"id": "1"}),
    RetryLater(code="limited", detail="Slow.", retry_after_seconds=7.0),
    Rejected(code="content", detail="Strange.", reason=RejectionReason.CONTENT),
    *(_BUSY, _BUSY, _LOST, _LOST, _LOST),
)
LOOKS = (
    Found(receipt={"id": "1"}),
    CannotTell(code="down", detail="Down.", look_again=True),
    *(NotFound(), NotFound(), _NO_LOOKUP, _NO_LOOKUP, _NO_LOOKUP),
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
        self.told: list[str] = []
        self.leases: list[tuple[real_leases.Lease, statements.Lease, bool]] = []
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

    def hint_of(self) -> tuple[wire.Hint, Hint]:
        """The hint of some delivery in both worlds, sometimes of the series before."""
        row = self.random.choice(list(self.model.store.deliveries.values()))
        channel, hint = row.channel, nets.hint_for(row)
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

    def go_on(self) -> None:
        """Let something happen, and compare."""
        store = self.model.store
        self.let_time_pass(TICK * self.random.choice((0, 0, 0, 1, 1, 2, 6)))
        deeds = [self.claim, self.claim, self.claim, self.conciliate, self.publish, self.record]
        deeds += [self.settle] * (4 if self.leases else 0)
        waits = any(row.held_at is not None for row in store.deliveries.values())
        waits = waits or any(letter.resolution is None for letter in store.letters.values())
        deeds += [self.act_as_operator] * (2 if waits else 0)
        deed = self.random.choice(deeds)
        deed()
        self.told.append(f"{self.model.scheduler.now:g}: {deed.__name__}")
        self.compare("; ".join(self.told))

    def claim(self) -> None:
        hints = self.hint_of()
        real = self.real.claim(hints[0], lease_seconds=LEASE)
        model = self.in_model(lambda transaction: statements.claim(REAL, transaction, hints[1]))
        if isinstance(model, statements.Nothing):
            reason = "dead" if isinstance(real, real_leases.AlreadyDead) else getattr(real, "reason", real)
            assert reason == model.reason
            return
        assert isinstance(real, real_leases.ToSend | real_leases.ToLookUp)
        assert real.lease.elapsed_seconds == pytest.approx(model.lease.elapsed, abs=0.001)
        assert (real.lease.attempt, real.lease.refunded, real.lease.looks, real.lease.in_steps) == (
            model.lease.attempt,
            model.lease.refunded,
            model.lease.looks,
            model.lease.in_steps,
        )
        if isinstance(model, statements.ToSend):
            assert isinstance(real, real_leases.ToSend)
            assert real.may_repeat == model.may_repeat
        else:
            assert isinstance(real, real_leases.ToLookUp)
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
        was_taken_over = self.model.store.deliveries[model.hint.delivery].lease_token != model.token
        sends = SENDS[:1] if was_taken_over and self.random.random() < 0.6 else SENDS  # a receipt that comes late
        outcome = self.random.choice(sends) if is_send else None
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
        hints = self.hint_of()
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
        real, model = rows_of_database(self.real), rows_of_model(self.model)
        for table, rows in model.items():
            assert real[table] == rows, f"{table} after {told}"


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
    for _ in range(70):
        story.go_on()
