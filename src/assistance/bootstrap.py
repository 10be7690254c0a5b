"""Wires the parts together: the one place that picks concrete ones. Every process starts here."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import structlog

from assistance import __version__
from assistance.broker.contract import Publisher, Subscriber, Subscription
from assistance.broker.topology import DEAD_LETTER_QUEUE, queue_of
from assistance.conciliation.retention import Retention
from assistance.conciliation.stragglers import Conciliation
from assistance.configuration import Configuration, load_configuration
from assistance.consumer.deliver import Deliverer, Times
from assistance.deadletters.recorder import Recorder
from assistance.domain.errors import BrokerUnavailable, DatabaseUnavailable, SchemaMismatch, SettingsError
from assistance.relay.publish import Relay
from assistance.relay.wakeup import WakeUp
from assistance.runtime import ids, metrics
from assistance.runtime.crash_reports import report_crashes
from assistance.runtime.logs import configure_logs
from assistance.runtime.loop import Stopped, patiently, run_passes
from assistance.settings import MEMORY_BROKER, Settings
from assistance.status.gauges import database_gauges
from assistance.storage.database import Database

log = structlog.get_logger()

#: How long a worker that is asked to stop waits for what is in hand.
STOP_SECONDS = 25.0
_RECORDER_WORKERS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What every worker needs."""

    settings: Settings
    configuration: Configuration
    database: Database
    stop: threading.Event
    worker: str

    @property
    def broker_url(self) -> str:
        """Where RabbitMQ is."""
        url = self.settings.broker_url.get_secret_value()
        if url == MEMORY_BROKER:
            raise SettingsError("ASSISTANCE_BROKER_URL is memory:, which works inside `assistance up` only.")
        return url


def configuration_of(settings: Settings) -> Configuration:
    """The configuration file that the settings name.

    Raises `SettingsError`.
    """
    if settings.config is None:
        raise SettingsError("ASSISTANCE_CONFIG is not set (the TOML file with channels and topics).")
    return load_configuration(settings.config)


def open_database(settings: Settings, service: str, *, pool_size: int, deadline_seconds: float = 30.0) -> Database:
    """The database that the settings name; connects at first use."""
    return Database(
        settings.database_url.get_secret_value(),
        pool_size=pool_size,
        deadline_seconds=deadline_seconds,
        application=f"assistance-{service}",
    )


def announce(settings: Settings, service: str) -> None:
    """Logs and crash reports for this process."""
    configure_logs(service, level=settings.log_level, fmt=settings.log_format)
    if settings.sentry_dsn is not None:
        report_crashes(settings.sentry_dsn.get_secret_value(), service, __version__)


def run_relay(settings: Settings, stop: threading.Event) -> None:
    """Publish due outbox rows until asked to stop."""
    with _parts(settings, "relay", stop, pool_size=2) as parts, ExitStack() as closing:
        publisher = _rabbit_publisher(parts)
        closing.callback(publisher.close)
        relay = Relay(parts.database, publisher, parts.configuration.channels)
        _serve_metrics(parts, closing, alive=relay.is_alive)
        _relay_loop(parts, relay)


def run_consumer(settings: Settings, channels: Collection[str], stop: threading.Event) -> None:
    """Deliver what the queues of these channels hold (all configured ones when none is named)."""
    busy = settings.workers_per_channel * max(1, len(channels))
    with _parts(settings, "consumer", stop, pool_size=min(busy, 32) + 2) as parts, ExitStack() as closing:
        subscriptions = _subscriptions(parts, channels or parts.configuration.channels)
        subscriber = _rabbit_subscriber(parts)
        subscriber.start(subscriptions)
        _serve_metrics(parts, closing)
        log.info("consumer.started", channels=[subscription.queue for subscription in subscriptions])
        stop.wait()
        log.info("consumer.stopped", everything_finished=subscriber.stop(STOP_SECONDS))


def run_conciliation(settings: Settings, stop: threading.Event, *, once: bool = False) -> None:
    """Re-arm stragglers, drain the dead letter queue, delete what was kept long enough.

    With `once`: one round over the database, without the dead letter queue.
    """
    with _parts(settings, "conciliation", stop, pool_size=_RECORDER_WORKERS + 2) as parts, ExitStack() as closing:
        if once:
            conciliation = _conciliation(parts)
            while conciliation.one_pass():
                pass
            return
        subscriber = _rabbit_subscriber(parts)
        subscriber.start([_recording(parts)])
        _serve_metrics(parts, closing)
        _conciliation_loop(parts)
        subscriber.stop(STOP_SECONDS)


@contextmanager
def _parts(settings: Settings, service: str, stop: threading.Event, *, pool_size: int) -> Iterator[Parts]:
    """Open what a worker needs; waits for the database, refuses another schema.

    Raises `SettingsError` and `SchemaMismatch`. Leaves quietly when asked to stop while waiting.
    """
    announce(settings, service)
    configuration = configuration_of(settings)
    database = open_database(settings, service, pool_size=pool_size)
    worker = ids.worker_name(service)
    parts = Parts(settings=settings, configuration=configuration, database=database, stop=stop, worker=worker)
    try:
        patiently(database.check, stop, waiting_for="database")
        yield parts
    except Stopped:
        log.info("stopped_while_waiting")
    finally:
        database.close()


def _relay_loop(parts: Parts, relay: Relay) -> None:
    url = parts.settings.database_url.get_secret_value()
    wake_up = WakeUp(url, parts.settings.relay_poll_seconds, parts.stop)
    run_passes("relay", relay.one_pass, wake_up.wait, parts.stop)


def _conciliation(parts: Parts) -> Conciliation:
    return Conciliation(
        parts.database, parts.configuration.channels, check_after_seconds=parts.settings.check_after_seconds
    )


def _conciliation_loop(parts: Parts) -> None:
    settings = parts.settings
    conciliation = _conciliation(parts)
    retention = Retention(
        requests_days=settings.keep_requests_days,
        attempts_days=settings.keep_attempts_days,
        dead_letters_days=settings.keep_dead_letters_days,
    )

    def one_pass() -> bool:
        stragglers = conciliation.one_pass()
        return retention.purge(parts.database) or stragglers

    run_passes("conciliation", one_pass, lambda: parts.stop.wait(settings.conciliation_interval_seconds), parts.stop)


def _subscriptions(parts: Parts, channels: Iterable[str]) -> list[Subscription]:
    """Raises `SettingsError` for a channel that is not configured or whose options are wrong."""
    settings = parts.settings
    times = Times(lease=settings.lease_seconds, check_after=settings.check_after_seconds)
    mistakes: list[str] = []
    found: list[Subscription] = []
    for name in channels:
        if name not in parts.configuration.channels:
            mistakes.append(f"Channel {name!r} is not in the configuration file.")
            continue
        channel_settings = parts.configuration.channels[name]
        try:
            channel = channel_settings.build()
        except SettingsError as error:
            mistakes.append(str(error))
            continue
        deliverer = Deliverer(
            parts.database, channel_settings, channel, worker=parts.worker, times=times, stop=parts.stop
        )
        found.append(Subscription(queue=queue_of(name), workers=settings.workers_per_channel, handler=deliverer.handle))
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    return found


def _recording(parts: Parts) -> Subscription:
    recorder = Recorder(parts.database, parts.stop)
    return Subscription(queue=DEAD_LETTER_QUEUE, workers=_RECORDER_WORKERS, handler=recorder.handle)


def _rabbit_publisher(parts: Parts) -> Publisher:
    from assistance.broker.rabbitmq.publisher import RabbitPublisher

    return RabbitPublisher(parts.broker_url, parts.configuration.channels)


def _rabbit_subscriber(parts: Parts) -> Subscriber:
    from assistance.broker.rabbitmq.subscriber import RabbitSubscriber

    return RabbitSubscriber(parts.broker_url, parts.configuration.channels)


def _serve_metrics(parts: Parts, closing: ExitStack, alive: metrics.Alive = lambda: True) -> None:
    settings = parts.settings
    if settings.metrics_port:
        gauges = database_gauges(parts.database, parts.configuration.channels)
        server = metrics.serve_metrics(settings.metrics_host, settings.metrics_port, gauges, alive=alive)
        closing.callback(server.shutdown)


def run_embedded_worker(settings: Settings, stop: threading.Event) -> None:
    """Relay, consumers, recorder and conciliation in one process over the in-memory broker.

    That broker forgets everything when its process dies, so at the start every lease is ended and every unfinished
    delivery re-armed. An advisory lock makes sure that nobody else is at work. Raises `SettingsError` when there is.
    """
    from assistance.broker.memory import MemoryBroker
    from assistance.storage.locks import Lock, hold

    url = settings.database_url.get_secret_value()
    with _parts(settings, "worker", stop, pool_size=24) as parts, ExitStack() as closing:
        lock = hold(url, Lock.EMBEDDED_WORKER)
        if lock is None:
            raise SettingsError("Another embedded worker is at work on this database.")
        closing.callback(lock.close)
        broker = MemoryBroker(parts.configuration.channels)
        subscriptions = [*_subscriptions(parts, parts.configuration.channels), _recording(parts)]
        subscriber = broker.subscriber()
        subscriber.start(subscriptions)
        _conciliation(parts).rearm_everything()
        relay = Relay(parts.database, broker.publisher(), parts.configuration.channels)
        _serve_metrics(parts, closing, alive=relay.is_alive)
        threads = [
            threading.Thread(target=_relay_loop, args=(parts, relay), name="relay"),
            threading.Thread(target=_conciliation_loop, args=(parts,), name="conciliation"),
        ]
        for thread in threads:
            thread.start()
        ready = hold(url, Lock.CONSUMERS_RUN)
        if ready is not None:
            closing.callback(ready.close)
        log.info("worker.started", channels=sorted(parts.configuration.channels))
        stop.wait()
        for thread in threads:
            thread.join()
        log.info("worker.stopped", everything_finished=subscriber.stop(STOP_SECONDS))


def check_start(settings: Settings) -> None:
    """What the API proves before it listens: a right configuration file, and no foreign schema.

    A database that is away is no reason to stay away: it answers 503 until it returns. Raises `SettingsError` and
    `SchemaMismatch`.
    """
    configuration_of(settings)
    broker_check(settings)
    database = open_database(settings, "api", pool_size=1, deadline_seconds=5)
    try:
        database.check()
    except DatabaseUnavailable as error:
        log.warning("api.starting_without_database", reason=str(error))
    finally:
        database.close()


def broker_check(settings: Settings) -> None:
    """Raises `SettingsError` when the broker's URL is wrong; does not connect."""
    from assistance.broker.rabbitmq.address import parse_url

    url = settings.broker_url.get_secret_value()
    if url != MEMORY_BROKER:
        parse_url(url)


def broker_problem(settings: Settings) -> str | None:
    """What is wrong with the broker, or none."""
    from assistance.broker.rabbitmq.probe import probe

    url = settings.broker_url.get_secret_value()
    if url == MEMORY_BROKER:
        return None  # it lives and dies with the worker, which /readyz knows about
    try:
        probe(url)
    except BrokerUnavailable as error:
        return str(error)
    return None


def database_problem(database: Database) -> str | None:
    """What is wrong with the database, or none."""
    try:
        database.check()
    except (DatabaseUnavailable, SchemaMismatch) as error:
        return str(error)
    return None
