"""A private PostgreSQL that tests may kill."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

from assistance.embedded.postgres import PostgresServer


class ControlledPostgres(PostgresServer):
    """`start`, `stop` and `url` as the launcher has them, and the ways in which a server fails."""

    def kill(self) -> None:
        """`kill -9` of the postmaster; its backends notice and leave by themselves, a moment later."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)
            self.stop()

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop every process of the server where it is (SIGSTOP): connections stay open and nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def remove(self) -> None:
        """Delete the stopped server's files."""
        shutil.rmtree(self.log_file.parent)

    def _signal_all(self, number: signal.Signals) -> None:
        assert self.pid is not None, "the server is not running"
        os.kill(self.pid, number)  # the postmaster first, so that it makes no more children
        for child in children_of(self.pid):
            with contextlib.suppress(ProcessLookupError):  # it ended a moment ago
                os.kill(child, number)


def children_of(process: int) -> list[int]:
    found = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(number) for number in found]


def is_running(process: int) -> bool:
    """Whether the process exists and is not merely waiting to be reaped."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def wait_until_gone(process: int, seconds: float = 20.0) -> bool:
    """Whether the process ended within the time."""
    deadline = time.monotonic() + seconds
    while is_running(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
