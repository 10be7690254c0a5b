"""The loop around a single pass: the one place with a broad `except`."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from assistance.domain.errors import AssistanceError
from assistance.runtime.clock import Backoff

log = structlog.get_logger()


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
