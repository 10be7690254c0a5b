"""Child processes that never outlive the process that started them, and the user they run as.

The kernel sends the parent-death signal when the *thread* that forked ends, so every child is started from one thread
that lives as long as the process; callers may use any thread.
"""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from typing import IO

#: The user `nobody`, whom every Linux system has.
_NOBODY = 65534
_AS_NOBODY_IN_NAMESPACE = ("unshare", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}", "--")
#: Runs the rest of the line unless the starting process died before the parent-death signal was set.
_UNLESS_ORPHANED = ("sh", "-c", 'test "$PPID" = "$0" && exec "$@"')


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a program runs as that refuses to be root: a command prefix, or another user id; neither for ourselves."""

    prefix: tuple[str, ...] = ()
    uid: int | None = None

    @property
    def owner(self) -> int:
        """The user id, as seen from here, that must own the program's files."""
        return os.geteuid() if self.uid is None else self.uid

    def run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a short command to its end; its output is text and stderr is mixed in."""
        return subprocess.run(  # noqa: S603 (programs that we found ourselves)
            [*self.prefix, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            user=self.uid,
            group=self.uid,
            extra_groups=None if self.uid is None else [],
        )


@cache
def unprivileged() -> Identity:
    """Ourselves, or for root an identity without its powers.

    A user namespace leaves the owner of files as it is, so that data and programs below a folder only root may enter
    keep working. Some containers refuse namespaces: then it is the user nobody, who must be given the files.
    """
    if os.geteuid() != 0:
        return Identity()
    in_namespace = Identity(prefix=_AS_NOBODY_IN_NAMESPACE)
    try:
        refused = in_namespace.run(["true"]).returncode != 0
    except OSError:
        refused = True
    return Identity(uid=_NOBODY) if refused else in_namespace


def start_child(
    command: Sequence[str],
    *,
    orphan_signal: signal.Signals,
    identity: Identity | None = None,
    environment: Mapping[str, str] | None = None,
    output: IO[bytes] | int | None = None,
) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own; it gets `orphan_signal` when this process dies, however it dies.

    `output` takes stdout and stderr. Without `setpriv` (that is, outside Linux) a `kill -9` of this process leaves the
    child running. Raises `OSError` when it cannot be started.
    """
    identity = identity or Identity()
    guard: tuple[str, ...] = ()
    if shutil.which("setpriv"):
        # Last in the chain of prefixes: changing the user would clear the signal again.
        guard = ("setpriv", "--pdeathsig", orphan_signal.name.removeprefix("SIG"), "--")
        guard += (*_UNLESS_ORPHANED, str(os.getpid()))

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 (programs that we found ourselves)
            [*identity.prefix, *guard, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output is not None else None,
            env=environment,
            start_new_session=True,
            user=identity.uid,
            group=identity.uid,
            extra_groups=None if identity.uid is None else [],
        )

    return _starter(os.getpid()).call(start)


class _Starter:
    """The thread that starts children."""

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[tuple[Callable[[], subprocess.Popen[bytes]], Future[subprocess.Popen[bytes]]]]
        self._orders = queue.SimpleQueue()
        threading.Thread(target=self._run, name="child-starter", daemon=True).start()

    def call(self, start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        future: Future[subprocess.Popen[bytes]] = Future()
        self._orders.put((start, future))
        return future.result()

    def _run(self) -> None:
        while True:
            start, future = self._orders.get()
            try:
                future.set_result(start())
            except Exception as error:  # noqa: BLE001 (raised again in the thread that asked)
                future.set_exception(error)


@cache
def _starter(_process: int) -> _Starter:
    """One per process: a forked process has no threads but its own."""
    return _Starter()
