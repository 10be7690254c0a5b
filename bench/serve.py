"""Serves an application as `assistance api` is served: `python -m bench.serve MODULE PORT WORKERS THREADS`."""

from __future__ import annotations

import multiprocessing
import sys

from granian.constants import Interfaces
from granian.log import LogLevels
from granian.server import Server

if __name__ == "__main__":
    module, port, workers, threads = sys.argv[1], *map(int, sys.argv[2:])
    multiprocessing.set_start_method("spawn")
    Server(
        f"{module}:app",
        address="127.0.0.1",
        port=port,
        interface=Interfaces.WSGI,
        workers=workers,
        blocking_threads=threads,
        log_level=LogLevels.error,
        websockets=False,
    ).serve()
