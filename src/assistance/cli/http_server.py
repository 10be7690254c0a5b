"""Runs the WSGI server in front of `assistance.wsgi`."""

from __future__ import annotations

import multiprocessing

from granian.constants import Interfaces
from granian.log import LogLevels
from granian.server import Server

from assistance.settings import Settings


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight are finished.

    A public address needs a buffering gateway in front (docs/operations.md): a body that stalls holds a thread.
    """
    # A forked worker would inherit locks that threads of this process hold at that moment.
    multiprocessing.set_start_method("spawn")
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
