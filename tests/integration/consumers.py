"""Consumers of channels whose providers answer as the test says, over either broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from assistance.broker.contract import Publisher, Subscriber, Subscription
from assistance.broker.topology import queue_of
from assistance.channels.contract import DeliveryKey, Health, Rendered
from assistance.consumer.deliver import Deliverer
from assistance.consumer.gate import Gate
from assistance.consumer.shared import SharedTransactions, Times
from assistance.consumer.watch import Watch, Watched
from assistance.deliveries.channel_states import (
    ChannelState,
    states_of,
)
from assistance.domain.outcome import Delivered, Outcome, Rejected, RejectionReason, RetryLater
from assistance.relay.publish import Relay
from assistance.resilience.retry_schedule import RetrySchedule
from assistance.runtime.clock import Deadline
from assistance.runtime.loop import run_passes
from tests.builders import CHECK_AFTER, ScriptedChannel, World, in_transaction

REFUSED = RetryLater(code="refused", detail="Connection refused.", answered=False)
REVOKED = Rejected(code="token_revoked", detail="Slack answered token_revoked", reason=RejectionReason.CONFIGURATION)
ARRIVED = Delivered(receipt={"id": "r"})
#: As `tests.builders.configuration` has it.
PROBE_AFTER = 0.1
SET = threading.Event()
SET.set()
SOON = RetrySchedule(delays=(0.05,), give_up_after=3600, jitter=0)


class Provider(ScriptedChannel):
    """Answers as it is told now, and remembers when it was called. One of it serves any number of consumers."""

    def __init__(self, answer: Outcome = ARRIVED) -> None:
        super().__init__()
        self.answer = answer
        self.go_on = SET
        self.problems: tuple[str, ...] = ()
        self.calls: list[float] = []
        self.checks = 0

    def send(self, rendered: Rendered, destination: Mapping[str, Any], key: DeliveryKey, deadline: Deadline) -> Outcome:
        self.calls.append(time.monotonic())
        answer = self.answer
        self.go_on.wait(10)
        return answer

    def check(self, deadline: Deadline) -> Health:
        self.checks += 1
        return Health(problems=self.problems)


class Consumer:
    """What a consumer process runs."""

    def __init__(
        self, world: World, subscriber: Subscriber, providers: Mapping[str, ScriptedChannel], workers: int
    ) -> None:
        self.subscriber = subscriber
        self.stopping, self.alarm = threading.Event(), threading.Event()
        self.gates = {name: Gate(name, self.alarm) for name in providers}
        configured = world.configuration.channels
        watched = [
            Watched(gate=self.gates[name], settings=configured[name], channel=provider, workers=workers)
            for name, provider in providers.items()
        ]
        times = Times(lease=60, check_after=CHECK_AFTER)
        subscriptions = [
            Subscription(
                queue=queue_of(each.settings.name),
                workers=workers,
                handler=Deliverer(
                    world.database,
                    each.settings,
                    each.channel,
                    gate=each.gate,
                    worker="tester",
                    times=times,
                    shared=sharing(world, subscriber, each.settings.name, times),
                    stop=self.stopping,
                ).handle,
            )
            for each in watched
        ]
        watch = Watch(world.database, subscriber, watched, self.alarm)
        watch.one_pass()
        subscriber.start(subscriptions)
        self._loop = threading.Thread(target=run_passes, args=("watch", watch.one_pass, watch.wait, self.stopping))
        self._loop.start()

    def stop(self) -> None:
        self.stopping.set()
        self.alarm.set()
        self._loop.join(20)
        self.subscriber.stop(10)


def sharing(world: World, subscriber: Subscriber, channel: str, times: Times) -> SharedTransactions:
    """A channel that shares with none, as in a process that consumes few."""
    return SharedTransactions(world.database, "tester", times, lambda: subscriber.in_hand({queue_of(channel)}))


class Consumers:
    """A relay and any number of consumers over one broker."""

    def __init__(self, world: World, publisher: Publisher, subscriber: Callable[[], Subscriber]) -> None:
        self.world = world
        self.consumers: list[Consumer] = []
        self._publisher, self._subscriber = publisher, subscriber
        self._stopping = threading.Event()
        relay = Relay(world.database, publisher, world.configuration.channels)
        self._loop = threading.Thread(
            target=run_passes, args=("relay", relay.one_pass, lambda: self._stopping.wait(0.01), self._stopping)
        )
        self._loop.start()

    def consume(self, workers: int = 4, **providers: ScriptedChannel) -> Consumer:
        self.consumers.append(Consumer(self.world, self._subscriber(), providers, workers))
        return self.consumers[-1]

    def state(self, channel: str = "people") -> ChannelState:
        return in_transaction(self.world.database, lambda connection: states_of(connection, [channel])[channel])

    def attempts(self) -> int:
        return self.world.count("attempts")

    def all_delivered(self, number: int) -> Callable[[], bool]:
        return lambda: self.world.count("deliveries", "state = 'delivered'") == number

    def stop(self) -> None:
        self._stopping.set()
        self._loop.join(20)
        for consumer in self.consumers:
            consumer.stop()
        self._publisher.close()


Install = Callable[[World], Consumers]
