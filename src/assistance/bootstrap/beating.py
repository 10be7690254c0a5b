"""Have a worker process say that it is there, for as long as a block runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog

from assistance.bootstrap.parts import Parts
from assistance.domain.errors import DatabaseUnavailable
from assistance.history.heartbeats import EVERY_SECONDS, Heart
from assistance.runtime import metrics
from assistance.runtime.loop import run_passes

log = structlog.get_logger()


def says_nothing() -> Mapping[str, Any]:
    """What there is to say about a process but that it is there."""
    return {}


@contextmanager
def beating(parts: Parts, role: str, state: Callable[[], Mapping[str, Any]] = says_nothing) -> Iterator[None]:
    """Beat in a thread of its own while the block runs; `state` says more about the process, as JSON."""
    heart = Heart(parts.database, parts.worker, role, in_flight=deliveries_in_hand, state=state)
    over = threading.Event()
    thread = threading.Thread(
        target=run_passes, args=("heartbeat", heart.beat, lambda: over.wait(EVERY_SECONDS), over), name="heartbeat"
    )
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        try:
            heart.leave()
        except DatabaseUnavailable as error:
            log.info("heartbeat.not_taken_back", reason=str(error))


def deliveries_in_hand() -> int:
    """How many deliveries the consumers of this process are busy with."""
    return round(sum(sample.value for family in metrics.active_workers.collect() for sample in family.samples))
