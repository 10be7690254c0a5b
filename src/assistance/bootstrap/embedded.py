"""All stages in one process over the in-memory broker, for `assistance up`."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import structlog
from psycopg import Connection

from assistance.bootstrap.beating import beating
from assistance.bootstrap.conciliating import conciliation_loop, conciliation_of, history_loop, recording, timers_loop
from assistance.bootstrap.consuming import consuming_of, watching
from assistance.bootstrap.measuring import serve_metrics
from assistance.bootstrap.operating import jobs_loop
from assistance.bootstrap.parts import STOP_SECONDS, open_parts
from assistance.bootstrap.relaying import relay_loop
from assistance.broker.memory import MemoryBroker
from assistance.domain.errors import DatabaseUnavailable, SettingsError
from assistance.relay.publish import Relay
from assistance.settings import Settings
from assistance.storage.locks import Lock, hold, still_holds

log = structlog.get_logger()

_LOCK_CHECK_SECONDS = 1.0


def run_embedded_worker(settings: Settings, stop: threading.Event) -> None:
    """Relay, consumers, recorder and conciliation in one process over the in-memory broker.

    That broker forgets everything when its process dies, so at the start every lease is ended and every unfinished
    delivery re-armed. An advisory lock makes sure that nobody else is at work. Raises `SettingsError` when there is.
    """
    url = settings.database_url.get_secret_value()
    with open_parts(settings, "worker", stop, pool_size=27) as parts, ExitStack() as closing:
        lock = hold(url, Lock.EMBEDDED_WORKER)
        if lock is None:
            raise SettingsError("Another embedded worker is at work on this database.")
        closing.callback(lock.close)
        broker = MemoryBroker(parts.configuration.channels)
        subscriber = broker.subscriber()
        consuming = consuming_of(parts, parts.configuration.channels, subscriber)
        closing.enter_context(watching(parts, subscriber, consuming))
        subscriber.start([*consuming.subscriptions, recording(parts)])
        conciliation_of(parts).rearm_everything()
        ready = hold(url, Lock.CONSUMERS_RUN)
        if ready is not None:
            closing.callback(ready.close)
        publisher = broker.publisher()
        relay = Relay(parts.database, publisher, parts.configuration.channels)
        closing.enter_context(beating(parts, "worker", lambda: {"broker": publisher.state}))
        serve_metrics(parts, closing, alive=relay.is_alive)
        threads = [
            threading.Thread(target=relay_loop, args=(parts, relay), name="relay"),
            threading.Thread(target=conciliation_loop, args=(parts,), name="conciliation"),
            threading.Thread(target=timers_loop, args=(parts,), name="timers"),
            threading.Thread(target=jobs_loop, args=(parts,), name="operations"),
            threading.Thread(target=history_loop, args=(parts,), name="history"),
        ]
        for thread in threads:
            thread.start()
        log.info("worker.started", channels=sorted(parts.configuration.channels))
        locks = [held for held in (lock, ready) if held is not None]
        lost = _wait_while_held(locks, stop)
        for thread in threads:
            thread.join()
        log.info("worker.stopped", everything_finished=subscriber.stop(STOP_SECONDS))
        if lost:
            raise DatabaseUnavailable("The worker lost its lock in the database; it has to start again.")


def _wait_while_held(locks: Iterable[Connection[Any]], stop: threading.Event) -> bool:
    """Wait until asked to stop; true when a lock was lost first, as by a restart of the database."""
    while not stop.wait(_LOCK_CHECK_SECONDS):
        if not all(still_holds(lock) for lock in locks):
            log.error("worker.lock_lost")
            stop.set()
            return True
    return False
