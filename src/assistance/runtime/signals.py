"""SIGTERM and SIGINT become one event that every loop watches."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable


def stop_on_signals() -> threading.Event:
    """An event that the first SIGTERM or SIGINT sets; call it from the main thread.

    The handlers replace an ignored SIGINT too, as a process has when a script started it in the background.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def when_asked_to_stop(action: Callable[[], None]) -> None:
    """Run `action` in a thread of its own at every SIGTERM and SIGINT, whoever handles these signals, now or later.

    The handlers of an API process belong to its web server. Call this from the main thread, once.
    """
    heard, told = socket.socketpair()
    told.settimeout(0)
    # The interpreter writes the number of each signal there before it runs any handler.
    signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)

    def listen() -> None:
        with told:  # kept open for as long as signals may come
            while number := heard.recv(1):
                if number[0] in (signal.SIGTERM, signal.SIGINT):
                    action()

    threading.Thread(target=listen, name="signals", daemon=True).start()


def begin_as_a_worker() -> None:
    """Heed signals as a process of its own, not as the one that forked this; and end with that one.

    Asks the kernel to kill this process when the one that started it dies, however it dies (Linux only).

    The worker processes of a web server whose master was killed would otherwise go on serving its port. It is SIGKILL
    because nobody is left to end a worker whose own handling of SIGTERM stands still, as that of our web server may.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    pr_set_pdeathsig = 1
    started_by = multiprocessing.parent_process()
    parent = os.getppid() if started_by is None else started_by.pid
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel knew
        os.kill(os.getpid(), signal.SIGKILL)
