"""Runs the WSGI server in front of `assistance.wsgi`."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from granian.constants import Interfaces
from granian.log import LogLevels
from granian.server import Server

import assistance.wsgi  # noqa: F401 (for the workers, which are forks of this process)
from assistance.bootstrap.checks import check_start
from assistance.bootstrap.parts import announce
from assistance.runtime.signals import begin_as_a_worker
from assistance.settings import Settings


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight are finished.

    This process imports everything once, and its workers are forks of it. It stays without threads and connections,
    whose locks and sockets they would inherit: what has to be proved before anybody listens is proved in another one.
    A public address needs a buffering gateway in front (docs/operations.md): a body that stalls holds a thread.
    Raises what `check_start` raises.
    """
    multiprocessing.set_start_method("fork")
    with ProcessPoolExecutor(max_workers=1, initializer=begin_as_a_worker) as aside:
        aside.submit(_prove_start, settings).result()
    Server(
        "assistance.wsgi:app",
        address=settings.http_host,
        port=settings.http_port,
        interface=Interfaces.WSGI,
        workers=settings.http_workers,
        blocking_threads=settings.http_threads,
        respawn_failed_workers=True,
        workers_kill_timeout=20,
        log_level=LogLevels.error,
        websockets=False,
    ).serve()


def _prove_start(settings: Settings) -> None:
    announce(settings, "api")
    check_start(settings)
