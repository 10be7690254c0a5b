"""The stages as processes of their own: relay, consumer, conciliation."""

from __future__ import annotations

import threading
from collections.abc import Collection
from contextlib import ExitStack

import structlog

from assistance.bootstrap.beating import beating
from assistance.bootstrap.consuming import consuming_of, watching
from assistance.bootstrap.operating import jobs_loop
from assistance.bootstrap.parts import Parts, configuration_of, open_parts
from assistance.broker.contract import Publisher, Subscriber, Subscription
from assistance.broker.topology import DEAD_LETTER_QUEUE
from assistance.conciliation.ledger import show_ledger
from assistance.conciliation.retention import Retention
from assistance.conciliation.stragglers import Conciliation
from assistance.conciliation.timers import Timers
from assistance.deadletters.recorder import Recorder
from assistance.domain.errors import SettingsError
from assistance.history.roll_up import RollUp
from assistance.relay.publish import Relay
from assistance.relay.wakeup import WakeUp
from assistance.runtime import metrics
from assistance.runtime.clock import monotonic
from assistance.runtime.loop import run_passes
from assistance.settings import Settings
from assistance.status.gauges import database_gauges

log = structlog.get_logger()

#: How long a worker that is asked to stop waits for what is in hand.
STOP_SECONDS = 25.0
_RECORDER_WORKERS = 2
#: Purging looks through whole tables, and nobody waits for it.
_PURGE_SECONDS = 600.0
_LEDGER_SECONDS = 300.0
#: How late a timer may fire.
_TIMERS_SECONDS = 1.0


def run_relay(settings: Settings, stop: threading.Event) -> None:
    """Publish due outbox rows until asked to stop."""
    with open_parts(settings, "relay", stop, pool_size=3, looks_up=True) as parts, ExitStack() as closing:
        publisher = _rabbit_publisher(parts)
        closing.callback(publisher.close)
        relay = Relay(parts.database, publisher, parts.configuration.channels)
        serve_metrics(parts, closing, alive=relay.is_alive)
        with beating(parts, "relay", lambda: {"broker": publisher.state}):
            relay_loop(parts, relay)


def run_consumer(settings: Settings, channels: Collection[str], stop: threading.Event) -> None:
    """Deliver what the queues of these channels hold (all configured ones when none is named)."""
    channels = channels or configuration_of(settings).channels
    busy = settings.workers_per_channel * len(channels)
    connections = min(busy, 32) + 3
    with open_parts(settings, "consumer", stop, pool_size=connections, looks_up=True) as parts, ExitStack() as closing:
        consuming = consuming_of(parts, channels)
        serve_metrics(parts, closing)
        subscriber = _rabbit_subscriber(parts)
        closing.enter_context(
            beating(parts, "consumer", lambda: {"broker": subscriber.state, "channels": sorted(channels)})
        )
        with watching(parts, subscriber, consuming):
            subscriber.start(consuming.subscriptions)
            log.info("consumer.started", channels=[subscription.queue for subscription in consuming.subscriptions])
            stop.wait()
        log.info("consumer.stopped", everything_finished=subscriber.stop(STOP_SECONDS))


def run_conciliation(settings: Settings, stop: threading.Event, *, once: bool = False) -> None:
    """Re-arm stragglers, fire timers, drain the dead letter queue, carry out operations, write the history, purge.

    With `once`: one round over the database, without the dead letter queue.
    """
    with open_parts(settings, "conciliation", stop, pool_size=_RECORDER_WORKERS + 6) as parts, ExitStack() as closing:
        if once:
            conciliation = conciliation_of(parts)
            while conciliation.one_pass():
                pass
            timers = timers_of(parts)
            while timers.one_pass():
                pass
            rolling = RollUp(parts.database)
            while rolling.one_pass():
                pass
            return
        serve_metrics(parts, closing)
        subscriber = _rabbit_subscriber(parts)
        subscriber.start([recording(parts)])
        closing.enter_context(beating(parts, "conciliation", lambda: {"broker": subscriber.state}))
        beside = [
            threading.Thread(target=timers_loop, args=(parts,), name="timers"),
            threading.Thread(target=jobs_loop, args=(parts,), name="operations"),
            threading.Thread(target=history_loop, args=(parts,), name="history"),
        ]
        for thread in beside:
            thread.start()
        conciliation_loop(parts)
        for thread in beside:
            thread.join()
        subscriber.stop(STOP_SECONDS)


def relay_loop(parts: Parts, relay: Relay) -> None:
    """Publish at every wake-up and every poll until asked to stop."""
    url = parts.settings.database_url.get_secret_value()
    wake_up = WakeUp(url, parts.settings.relay_poll_seconds, parts.stop)

    def wait() -> None:
        relay.is_told = wake_up.wait(relay.next_due_seconds)

    run_passes("relay", relay.one_pass, wait, parts.stop)


def conciliation_of(parts: Parts) -> Conciliation:
    """The conciliation of this installation."""
    return Conciliation(
        parts.database, parts.configuration.channels, check_after_seconds=parts.settings.check_after_seconds
    )


def timers_of(parts: Parts) -> Timers:
    """What fires the timers of this installation."""
    return Timers(parts.database, worker=parts.worker, check_after_seconds=parts.settings.check_after_seconds)


def timers_loop(parts: Parts) -> None:
    """Fire what is due every second until asked to stop."""
    run_passes("timers", timers_of(parts).one_pass, lambda: parts.stop.wait(_TIMERS_SECONDS), parts.stop)


def history_loop(parts: Parts) -> None:
    """Write down what happened in each minute as soon as it is over, until asked to stop."""
    rolling = RollUp(parts.database)
    run_passes("history", rolling.one_pass, lambda: parts.stop.wait(rolling.next_seconds), parts.stop)


def conciliation_loop(parts: Parts) -> None:
    """Re-arm stragglers at every interval until asked to stop; now and then purge, and count for the ledger."""
    settings = parts.settings
    conciliation = conciliation_of(parts)
    retention = Retention(
        requests_days=settings.keep_requests_days,
        attempts_days=settings.keep_attempts_days,
        dead_letters_days=settings.keep_dead_letters_days,
    )

    purge_at = count_at = monotonic()

    def one_pass() -> bool:
        nonlocal purge_at, count_at
        more = conciliation.one_pass()
        if monotonic() >= purge_at:
            left = retention.purge(parts.database)
            purge_at = monotonic() + (0 if left else _PURGE_SECONDS)
            more = more or left
        if monotonic() >= count_at:
            show_ledger(parts.database)
            count_at = monotonic() + _LEDGER_SECONDS
        metrics.conciliation_rounds.inc()
        return more

    run_passes("conciliation", one_pass, lambda: parts.stop.wait(settings.conciliation_interval_seconds), parts.stop)


def recording(parts: Parts) -> Subscription:
    """The subscription that drains the dead letter queue."""
    recorder = Recorder(parts.database, parts.stop)
    return Subscription(queue=DEAD_LETTER_QUEUE, workers=_RECORDER_WORKERS, handler=recorder.handle)


def _rabbit_publisher(parts: Parts) -> Publisher:
    from assistance.broker.rabbitmq.publisher import RabbitPublisher

    return RabbitPublisher(parts.broker_url, parts.configuration.channels)


def _rabbit_subscriber(parts: Parts) -> Subscriber:
    from assistance.broker.rabbitmq.subscriber import RabbitSubscriber

    return RabbitSubscriber(parts.broker_url, parts.configuration.channels)


def serve_metrics(parts: Parts, closing: ExitStack, alive: metrics.Alive = lambda: True) -> None:
    """Serve metrics until `closing` closes, if the settings name a port for them."""
    settings = parts.settings
    if settings.metrics_port:
        gauges = database_gauges(parts.database, parts.configuration.channels)
        try:
            server = metrics.serve_metrics(settings.metrics_host, settings.metrics_port, gauges, alive=alive)
        except OSError as error:
            reason = f"{settings.metrics_port} cannot be used: {error.strerror}"
            raise SettingsError(f"ASSISTANCE_METRICS_PORT {reason}.") from error
        closing.callback(server.shutdown)
