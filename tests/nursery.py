"""Starts processes that have their modules imported already: `python -m tests.nursery`.

Importing takes a Python process most of a second of processor time, which a test would pay for every process, and a
campaign for every kill. This process imports once, stays without threads and connections, and forks; a fork shares
nothing else with it.

One JSON object a line on standard input: `arguments` (as after `python`), `environment`, `log`. One on standard output:
`{"pid": …}` for each start, in order, and `{"ended": …, "code": …}` for each end.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import queue
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_PRELOADED = (
    "assistance.bootstrap.relaying",
    "assistance.bootstrap.consuming",
    "assistance.bootstrap.conciliating",
    "assistance.broker.rabbitmq.publisher",
    "assistance.broker.rabbitmq.subscriber",
    "assistance.cli",
    "assistance.bootstrap.checks",
    "assistance.channels.email",
    "assistance.channels.slack",
    "assistance.channels.webhook",
    "assistance.cli.http_server",
    "sqlalchemy.dialects.postgresql.psycopg",
    "assistance.embedded.sandbox.server",
    "tests.chaos.sinks",
)
_ROOT = Path(__file__).parents[1]
_START_SECONDS = 60.0
_PR_SET_PDEATHSIG = 1


class Nursery:
    """The side of those who want processes: starts them and knows how they ended. Thread-safe."""

    def __init__(self, environment: Mapping[str, str], log: Path | None = None) -> None:
        with log.open("ab") if log else contextlib.nullcontext() as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.nursery"],
                cwd=_ROOT,
                env={**os.environ, **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        self._turn = threading.Lock()
        self._changed = threading.Condition()
        self._pids: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._codes: dict[int, int] = {}
        threading.Thread(target=self._listen, name="nursery", daemon=True).start()

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Child:
        """Start `python` with these arguments, in a process group of its own."""
        order = {"arguments": list(arguments), "environment": dict(environment), "log": str(log)}
        with self._turn:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
            return Child(self, self._pids.get(timeout=_START_SECONDS))

    def code(self, pid: int) -> int | None:
        """How the process ended (negative: by which signal); none while it runs."""
        with self._changed:
            return self._codes.get(pid)

    def wait(self, pid: int, seconds: float) -> int:
        """Wait until the process has ended; how."""
        with self._changed:
            assert self._changed.wait_for(lambda: pid in self._codes, seconds), f"process {pid} does not end"
            return self._codes[pid]

    def close(self) -> None:
        """End it with everything that it started."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError):
            for line in self._process.stdout:
                told = json.loads(line)
                if "pid" in told:
                    with self._changed:
                        self._codes.pop(told["pid"], None)  # the kernel gives numbers again
                    self._pids.put(told["pid"])
                    continue
                with self._changed:
                    self._codes[told["ended"]] = told["code"]
                    self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class Child:
    """A process that a nursery started, to be used like one of `subprocess`."""

    nursery: Nursery
    pid: int

    def poll(self) -> int | None:
        return self.nursery.code(self.pid)

    def wait(self, timeout: float = 30.0) -> int:
        return self.nursery.wait(self.pid, timeout)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Child:
    """As `Nursery.start`, in one of those that all tests of this process share; they end when it does."""
    return _nursery_of_this_run(shares_metrics=arguments[-1] == "api").start(arguments, environment, log)


@cache
def _nursery_of_this_run(*, shares_metrics: bool) -> Nursery:
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    nursery = Nursery(sharing_metrics(Path(folder.name)) if shares_metrics else {})
    atexit.register(nursery.close)
    return nursery


def sharing_metrics(folder: Path) -> Mapping[str, str]:
    """What the nursery of an API needs: there it is decided that metrics are shared, and by each fork where."""
    return {"PROMETHEUS_MULTIPROC_DIR": str(folder)}


def main() -> None:
    """The process's side."""
    if "FAKETIME_TIMESTAMP_FILE" in os.environ:
        # Under a clock that can be stepped, the system call behind time.sleep refuses its argument.
        time.sleep = _sleep  # type: ignore[assignment]
    for name in _PRELOADED:
        importlib.import_module(name)
    gc.freeze()
    orders = os.fdopen(0, "rb", buffering=0)
    waiting = select.poll()
    waiting.register(orders, select.POLLIN)
    children: dict[int, int] = {}  # by the descriptor that tells of their end
    while True:
        for descriptor, _ in waiting.poll():
            if descriptor in children:
                _bury(children.pop(descriptor), descriptor, waiting)
            elif line := orders.readline():
                pid = os.fork()
                if pid == 0:
                    _become(json.loads(line), list(children))
                os.setpgid(pid, pid)  # here, so that it is done when somebody hears of the process
                ended = os.pidfd_open(pid)
                children[ended] = pid
                waiting.register(ended, select.POLLIN)
                _say(pid=pid)
            else:
                return


def _sleep(seconds: float) -> None:
    threading.Event().wait(seconds)


def _bury(pid: int, descriptor: int, waiting: select.poll) -> None:
    waiting.unregister(descriptor)
    os.close(descriptor)
    _, status = os.waitpid(pid, 0)
    _say(ended=pid, code=os.waitstatus_to_exitcode(status))


def _say(**told: int) -> None:
    os.write(1, json.dumps(told).encode() + b"\n")


def _become(order: Mapping[str, Any], inherited: Sequence[int]) -> None:
    """Be the process that was ordered; never returns."""
    with contextlib.suppress(OSError):  # our parent was quicker
        os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for descriptor in inherited:
        os.close(descriptor)
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.environ.clear()
    os.environ.update(order["environment"])
    code = 1
    try:
        _run(order["arguments"])
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:  # noqa: BLE001 (as the interpreter would)
        sys.excepthook(*sys.exc_info())
    finally:
        threading._shutdown()  # type: ignore[attr-defined]  # what the interpreter does before it exits
        sys.stderr.flush()
        os._exit(code)


def _run(arguments: Sequence[str]) -> None:
    is_module = arguments[0] == "-m"
    sys.argv = list(arguments[1:] if is_module else arguments)
    if is_module:
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main()
