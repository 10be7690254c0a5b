"""The processes of the installation under test, and the thread that starts a dead one again at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.nursery import Child, Nursery
from tests.servers.postgres import children_of, is_running

ROOT = Path(__file__).parents[2]
_LOOK_SECONDS = 0.05
#: A process that ends by itself sooner than this is not started again at once, so that a broken one does not eat the
#: processor.
_TOO_SOON_SECONDS = 0.5


class Member:
    """One process, in all its lives."""

    def __init__(
        self, nursery: Nursery, name: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self.service = name.rpartition("-")[0]
        self.log = log
        self.lives = 0
        self.killed = 0  #: how many lives we ended
        self.own_ends: list[int] = []  #: exit codes of lives that nobody ended
        self.started = 0.0
        self.turn = threading.Lock()  # whoever holds it decides what happens to the process
        self._nursery = nursery
        self._arguments = list(arguments)
        self._environment = dict(environment)
        self._life: Child | None = None  # the present or last one

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        return self._life.pid if self._life is not None and self._life.poll() is None else None

    @property
    def age(self) -> float:
        return time.monotonic() - self.started

    def start(self) -> None:
        self._life = self._nursery.start(self._arguments, self._environment, self.log)
        self.lives += 1
        self.started = time.monotonic()

    def see_to(self) -> None:
        """Start it again if it ended."""
        if self._life is None or self.pid is not None or not self.turn.acquire(blocking=False):
            return
        try:
            code = self._life.wait()
            if code != -signal.SIGKILL:
                self.own_ends.append(code)
                if self.age < _TOO_SOON_SECONDS:
                    time.sleep(_TOO_SOON_SECONDS)
            self.start()
        finally:
            self.turn.release()

    def kill(self) -> bool:
        """`kill -9` of the process with its children; whether it was alive."""
        return self._kill(os.killpg)

    def kill_master(self) -> bool:
        """`kill -9` of the process alone, which leaves its children behind."""
        return self._kill(os.kill)

    def _kill(self, send: Callable[[int, int], None]) -> bool:
        life = self._life
        if life is None or life.poll() is not None:
            return False
        with contextlib.suppress(ProcessLookupError):
            send(life.pid, signal.SIGKILL)
        self.killed += life.wait() == -signal.SIGKILL
        return True

    def kill_child(self) -> bool:
        """`kill -9` of the worker that an API started; whether there was one."""
        pid = self.pid
        workers = [child for child in children_of(pid) if _command_line(child) == _command_line(pid)] if pid else []
        for worker in workers[:1]:
            os.kill(worker, signal.SIGKILL)
            self.killed += 1
        return bool(workers)

    def signal_all(self, number: signal.Signals) -> bool:
        """Send a signal to the process and its children; whether it was alive."""
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)
        return pid is not None

    def is_frozen(self) -> bool:
        pid = self.pid
        return pid is not None and is_running(pid) and _state(pid) == "T"

    def end(self) -> None:
        """For good."""
        with self.turn:
            if self.pid is not None:
                self.signal_all(signal.SIGKILL)
            self._life = None


class Supervisor:
    """Looks after the members until it is closed."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = members
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(_LOOK_SECONDS):
            for member in self._members:
                member.see_to()


def _command_line(process: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes()
    return b""


def _state(process: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    return ""
