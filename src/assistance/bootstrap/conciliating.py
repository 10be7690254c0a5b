"""Conciliation and what else runs beside the flow: as a process of its own, and its loops for others."""

from __future__ import annotations

import threading
from contextlib import ExitStack

from assistance.bootstrap.beating import beating
from assistance.bootstrap.measuring import serve_metrics
from assistance.bootstrap.operating import jobs_loop
from assistance.bootstrap.parts import STOP_SECONDS, Parts, open_parts
from assistance.broker.contract import Subscription
from assistance.broker.topology import DEAD_LETTER_QUEUE
from assistance.conciliation.ledger import show_ledger
from assistance.conciliation.retention import Retention
from assistance.conciliation.stragglers import Conciliation
from assistance.conciliation.timers import Timers
from assistance.deadletters.recorder import Recorder
from assistance.history.roll_up import RollUp
from assistance.runtime import metrics
from assistance.runtime.clock import monotonic
from assistance.runtime.loop import run_passes
from assistance.settings import Settings

_RECORDER_WORKERS = 2
#: Purging looks through whole tables, and nobody waits for it.
_PURGE_SECONDS = 600.0
_LEDGER_SECONDS = 300.0
#: How late a timer may fire.
_TIMERS_SECONDS = 1.0


def run_conciliation(settings: Settings, stop: threading.Event, *, once: bool = False) -> None:
    """Re-arm stragglers, fire timers, drain the dead letter queue, carry out operations, write the history, purge.

    With `once`: one round over the database, without the dead letter queue.
    """
    from assistance.broker.rabbitmq.subscriber import RabbitSubscriber

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
        subscriber = RabbitSubscriber(parts.broker_url, parts.configuration.channels)
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
