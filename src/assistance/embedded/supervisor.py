"""Keeps child processes running, and makes sure that none is left when this process ends, however it ends.

The children share this process's group, so that a signal for the group (a Ctrl-C in a terminal, `kill -9 -- -GROUP`)
reaches all of them. If this process is killed alone, the kernel sends them SIGTERM. What a killed child leaves behind
(a web server's own workers would go on serving) is handed to this process by the kernel, and ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from assistance.runtime.clock import Backoff, monotonic

log = structlog.get_logger()

_PR_SET_CHILD_SUBREAPER = 36
#: A child that ran this long has recovered: its next restart is quick again.
_RECOVERED_SECONDS = 30.0
#: Runs the rest of the line unless the starting process died before the parent-death signal was set.
_UNLESS_ORPHANED = ("sh", "-c", 'test "$PPID" = "$0" && exec "$@"')


class Child:
    """One process that should be running. Use it from the main thread only.

    The kernel sends the parent-death signal when the thread that forked ends, and the main thread ends last.
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], stop_seconds: float) -> None:
        self.name = name
        self._command = command
        self._environment = environment
        self._stop_seconds = stop_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._backoff = Backoff(first=0.2, most=10.0)
        self._started_at = 0.0
        self._restart_at: float | None = None
        #: How often the process ended without being asked to.
        self.deaths = 0

    @property
    def pid(self) -> int | None:
        """The process id of the last start."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the process."""
        guard: tuple[str, ...] = ()
        if shutil.which("setpriv"):  # Linux; elsewhere a `kill -9` of this process leaves the child running
            guard = ("setpriv", "--pdeathsig", "TERM", "--", *_UNLESS_ORPHANED, str(os.getpid()))
        self._process = subprocess.Popen(  # noqa: S603 (programs of ours)
            [*guard, *self._command], stdin=subprocess.DEVNULL, env=dict(self._environment)
        )
        self._started_at = monotonic()
        self._restart_at = None

    def exit_code(self) -> int | None:
        """How the process ended, or none while it runs."""
        return self._process.poll() if self._process is not None else None

    def keep_running(self) -> None:
        """Start the process again if it died, after a pause that grows while it keeps dying."""
        code = self.exit_code()
        if code is None:
            return
        if self._restart_at is None:
            self.deaths += 1
            if monotonic() - self._started_at > _RECOVERED_SECONDS:
                self._backoff.reset()
            pause = self._backoff.next_seconds()
            self._restart_at = monotonic() + pause
            log.warning("up.restarting", child=self.name, exit_code=code, pause_seconds=round(pause, 1))
        elif monotonic() >= self._restart_at:
            self.start()

    def stop(self) -> None:
        """Ask the process to finish what is in hand; kill it when it takes longer than its `stop_seconds`."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(self._stop_seconds)
        except subprocess.TimeoutExpired:
            log.warning("up.killed", child=self.name, after_seconds=self._stop_seconds)
            self._process.kill()
            self._process.wait()


def adopt_orphans() -> None:
    """Have the kernel hand the children of our dead children to this process. Linux only, elsewhere nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_orphans(known: Sequence[int | None]) -> None:
    """Kill and collect every child process that is not one of the `known`."""
    for pid in _children() - set(known):
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _children() -> set[int]:
    found: set[int] = set()
    for listing in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            found |= {int(pid) for pid in listing.read_text(encoding="ascii").split()}
    return found
