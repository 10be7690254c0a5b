"""The loop around a single pass: the one place with a broad `except`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import structlog
from tenacity import (
    RetryCallState,
    RetryError,
    Retrying,
    retry_if_exception_type,
    wait_exponential_jitter,
)

from assistance.domain.errors import AssistanceError, BrokerUnavailable, DatabaseUnavailable
from assistance.runtime.clock import Backoff, monotonic, sleep

log = structlog.get_logger()

Result = TypeVar("Result")


class Stopped(Exception):
    """The process is asked to stop before a server came back."""


def patiently(
    action: Callable[[], Result], stop: threading.Event, *, waiting_for: str, grace_seconds: float = 0.0
) -> Result:
    """Run `action` until the server that it needs is there; says once that it waits, and once that it goes on.

    Raises `Stopped` when `stop` is set first; with a grace, only when the server stays away for that long afterwards.
    """
    waited = False
    stopped_at: float | None = None

    def over(_state: RetryCallState) -> bool:
        nonlocal stopped_at
        if not stop.is_set():
            return False
        stopped_at = stopped_at or monotonic()
        return monotonic() - stopped_at >= grace_seconds

    def pause(seconds: float) -> None:
        if stop.wait(seconds):
            sleep(min(seconds, grace_seconds))

    def tell(state: RetryCallState) -> None:
        nonlocal waited
        if not waited:
            log.warning("waiting", waiting_for=waiting_for, reason=str(state.outcome and state.outcome.exception()))
        waited = True

    trying = Retrying(
        retry=retry_if_exception_type((DatabaseUnavailable, BrokerUnavailable)),
        wait=wait_exponential_jitter(multiplier=0.2, max=5, jitter=0.2),
        stop=over,
        sleep=pause,
        before_sleep=tell,
    )
    try:
        result = trying(action)
    except RetryError as error:
        raise Stopped from error
    if waited:
        log.info("going_on", waiting_for=waiting_for)
    return result


def run_passes(name: str, one_pass: Callable[[], bool], wait: Callable[[], object], stop: threading.Event) -> None:
    """Run `one_pass` until `stop` is set; `wait` after a pass that says (by returning false) that nothing is left.

    A pass that fails is logged and tried again after a growing pause: a server that is away is expected to come back,
    and no loop of ours may die of it.
    """
    backoff = Backoff()
    while not stop.is_set():
        try:
            more = one_pass()
        except AssistanceError as error:
            log.warning(f"{name}.waiting", reason=str(error))
            backoff.wait(stop)
        except Exception:
            log.exception(f"{name}.failed")
            backoff.wait(stop)
        else:
            backoff.reset()
            if not more:
                wait()
