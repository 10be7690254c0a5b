"""What consumes channels (a handler, a gate and a place in the watch for each), and the process that does only that."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import structlog

from assistance.bootstrap.beating import beating
from assistance.bootstrap.measuring import serve_metrics
from assistance.bootstrap.parts import STOP_SECONDS, Parts, configuration_of, open_parts
from assistance.broker.contract import Subscriber, Subscription
from assistance.broker.topology import queue_of
from assistance.consumer.deliver import Deliverer
from assistance.consumer.gate import Gate
from assistance.consumer.shared import SharedTransactions, Times
from assistance.consumer.watch import Watch, Watched
from assistance.domain.errors import SettingsError
from assistance.runtime import metrics
from assistance.runtime.loop import patiently, run_passes
from assistance.settings import Settings

log = structlog.get_logger()

#: How many groups of channels share their transactions: up to as many channels do not wait for one another.
_LANES = 4


@dataclass(kw_only=True, slots=True)
class Consuming:
    """The channels that a process consumes; `alarm` wakes their watch."""

    subscriptions: list[Subscription] = field(default_factory=list)
    watched: list[Watched] = field(default_factory=list)
    alarm: threading.Event = field(default_factory=threading.Event)


def run_consumer(settings: Settings, channels: Collection[str], stop: threading.Event) -> None:
    """Deliver what the queues of these channels hold (all configured ones when none is named)."""
    from assistance.broker.rabbitmq.subscriber import RabbitSubscriber

    channels = channels or configuration_of(settings).channels
    busy = settings.workers_per_channel * len(channels)
    connections = min(busy, 32) + 3
    with open_parts(settings, "consumer", stop, pool_size=connections, looks_up=True) as parts, ExitStack() as closing:
        subscriber = RabbitSubscriber(parts.broker_url, parts.configuration.channels)
        consuming = consuming_of(parts, channels, subscriber)
        serve_metrics(parts, closing)
        closing.enter_context(
            beating(parts, "consumer", lambda: {"broker": subscriber.state, "channels": sorted(channels)})
        )
        with watching(parts, subscriber, consuming):
            subscriber.start(consuming.subscriptions)
            log.info("consumer.started", channels=[subscription.queue for subscription in consuming.subscriptions])
            stop.wait()
        log.info("consumer.stopped", everything_finished=subscriber.stop(STOP_SECONDS))


def consuming_of(parts: Parts, channels: Iterable[str], subscriber: Subscriber) -> Consuming:
    """Raises `SettingsError` for a channel that is not configured or whose options are wrong."""
    consuming = Consuming()
    times = Times(lease=parts.settings.lease_seconds, check_after=parts.settings.check_after_seconds)
    names = list(channels)
    lanes = [_lane(parts, names[first::_LANES], times, subscriber) for first in range(_LANES)]
    mistakes: list[str] = []
    for name, lane in zip(names, itertools.cycle(lanes), strict=False):
        try:
            _add(consuming, parts, name, times, lane)
        except SettingsError as error:
            mistakes.append(str(error))
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    return consuming


def _lane(parts: Parts, channels: Iterable[str], times: Times, subscriber: Subscriber) -> SharedTransactions:
    """What these channels share."""
    queues = frozenset(map(queue_of, channels))
    return SharedTransactions(parts.database, parts.worker, times, lambda: subscriber.in_hand(queues))


def _add(consuming: Consuming, parts: Parts, name: str, times: Times, shared: SharedTransactions) -> None:
    if name not in parts.configuration.channels:
        raise SettingsError(f"Channel {name!r} is not in the configuration file.")
    settings, workers = parts.configuration.channels[name], parts.settings.workers_per_channel
    channel = settings.build()
    gate = Gate(name, consuming.alarm)
    deliverer = Deliverer(
        parts.database,
        settings,
        channel,
        gate=gate,
        worker=parts.worker,
        times=times,
        shared=shared,
        stop=parts.stop,
    )
    metrics.channel_workers.labels(name).set(workers)
    consuming.subscriptions.append(Subscription(queue=queue_of(name), workers=workers, handler=deliverer.handle))
    consuming.watched.append(Watched(gate=gate, settings=settings, channel=channel, workers=workers))


@contextmanager
def watching(parts: Parts, subscriber: Subscriber, consuming: Consuming) -> Iterator[None]:
    """Watch in a thread of its own while the block runs; enter before the subscriber starts.

    What is paused is not even begun to be consumed. Raises `Stopped` when asked to stop before the database answered.
    """
    watch = Watch(parts.database, subscriber, consuming.watched, consuming.alarm)
    patiently(watch.one_pass, parts.stop, waiting_for="database")
    loop = threading.Thread(target=run_passes, args=("watch", watch.one_pass, watch.wait, parts.stop), name="watch")
    loop.start()
    try:
        yield
    finally:
        parts.stop.set()
        consuming.alarm.set()
        loop.join()
