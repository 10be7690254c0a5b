"""The loop around a single pass: the one place with a broad `except`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import structlog

from assistance.domain.errors import AssistanceError, BrokerUnavailable, DatabaseUnavailable
from assistance.runtime.clock import Backoff

log = structlog.get_logger()

Result = TypeVar("Result")


class Stopped(Exception):
    """The process is asked to stop before a server came back."""


def patiently(action: Callable[[], Result], stop: threading.Event, *, waiting_for: str) -> Result:
    """Run `action` until the server that it needs is there; says once that it waits, and once that it goes on.

    Raises `Stopped` when `stop` is set first.
    """
    backoff = Backoff()
    waited = False
    while True:
        try:
            result = action()
        except (DatabaseUnavailable, BrokerUnavailable) as error:
            if not waited:
                log.warning("waiting", waiting_for=waiting_for, reason=str(error))
            waited = True
            if backoff.wait(stop):
                raise Stopped from error
        else:
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
