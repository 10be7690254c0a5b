"""SIGTERM and SIGINT become one event that every loop watches."""

from __future__ import annotations

import signal
import threading


def stop_on_signals() -> threading.Event:
    """An event that the first SIGTERM or SIGINT sets; call it from the main thread.

    The handlers replace an ignored SIGINT too, as a process has when a script started it in the background.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
