"""What goes wrong with servers and clocks: a full disk, alarms of the broker, a killed backend, a stepped clock."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from assistance.storage.database import raw_connection
from tests.servers.missing import ServerMissing
from tests.servers.packages import CACHE, unpacked
from tests.servers.postgres import ControlledPostgres
from tests.servers.rabbit import DISK_LIMIT, MEMORY_LIMIT, RabbitServer

_KEEP_MOUNTED = Path(__file__).with_name("keep_mounted.py")
_MEBIBYTE = 1024 * 1024
_AT_ONCE = 64 * 1024


class SmallDisk:
    """A disk of its own in memory, mounted at `folder`, that can be filled and freed; gone with this process.

    Raises `ServerMissing` where mounting is not allowed.
    """

    def __init__(self, folder: Path, mebibytes: int = 160) -> None:
        folder.mkdir(mode=0o700, parents=True)
        self.folder = folder
        self._filler = folder / "filler"
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_KEEP_MOUNTED), str(folder), f"{mebibytes}m"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._keeper.stdout is not None
        if self._keeper.stdout.readline() != b"mounted\n":
            self.close()
            raise ServerMissing("a disk of its own cannot be mounted here (that needs root)")

    def fill(self) -> int:
        """Take all the space that is left; how many MiB that was."""
        written = 0
        with self._filler.open("ab", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                written += filler.write(bytes(_AT_ONCE))
        return written // _MEBIBYTE

    def free(self) -> None:
        """Give the space back."""
        self._filler.unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount it, with all its files; whoever still has one open keeps it until then."""
        for pipe in (self._keeper.stdin, self._keeper.stdout):
            if pipe is not None:
                pipe.close()
        self._keeper.wait()


@contextlib.contextmanager
def postgres_on_a_small_disk(folder: Path) -> Iterator[tuple[ControlledPostgres, SmallDisk]]:
    """A started PostgreSQL with all its files on a disk that can be filled. Raises `ServerMissing`."""
    disk = SmallDisk(folder)
    server = ControlledPostgres(folder, settings={"min_wal_size": "32MB", "max_wal_size": "48MB"})
    try:
        server.start()
        yield server, disk
    finally:
        disk.free()
        server.kill()
        disk.close()


@contextlib.contextmanager
def disk_alarm(rabbit: RabbitServer) -> Iterator[None]:
    """The broker finds its disk too full and takes no messages."""
    rabbit.rabbitmqctl("set_disk_free_limit", "9000GB")
    try:
        yield
    finally:
        rabbit.rabbitmqctl("set_disk_free_limit", DISK_LIMIT)


@contextlib.contextmanager
def memory_alarm(rabbit: RabbitServer) -> Iterator[None]:
    """The broker finds that it uses too much memory and takes no messages."""
    rabbit.rabbitmqctl("set_vm_memory_high_watermark", "absolute", "1")
    try:
        yield
    finally:
        rabbit.rabbitmqctl("set_vm_memory_high_watermark", "absolute", MEMORY_LIMIT)


def kill_a_backend(url: str, application: str = "assistance%") -> int | None:
    """`kill -9` one session of a local server whose application name is like `application`; its process, if any.

    PostgreSQL then ends every session and recovers: shared memory is not to be trusted any more.
    """
    with raw_connection(url) as connection:
        row = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE %s AND backend_type = 'client backend'"
            " AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1",
            [application],
        ).fetchone()
    if row is None:
        return None
    os.kill(row[0], signal.SIGKILL)
    return int(row[0])


#: How long a running process may take to notice that its clock has stepped.
STEP_SECONDS = 1


class SteppedClock:
    """A wall clock for processes that are started with `environment`; `step` moves it while they run
    (`STEP_SECONDS`).

    Their monotonic clock stays as it is, as when a machine's time is set. Raises `ServerMissing` when the library that
    does it is neither installed nor to be fetched.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.environment = {
            "LD_PRELOAD": str(faketime_library()),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            # Looking at the file at every reading of the clock would slow a busy process down fifteenfold.
            "FAKETIME_CACHE_DURATION": str(STEP_SECONDS),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }
        self.step("+0")

    def step(self, offset: str) -> None:
        """Set the clock to the real time plus `offset`: `+1h`, `-1h`, `+10y`, `+0`."""
        unfinished = self._file.with_suffix(".new")
        unfinished.write_text(offset + "\n")
        unfinished.rename(self._file)


@cache
def faketime_library() -> Path:
    """The build for programs with threads. Raises `ServerMissing`."""
    name = "libfaketimeMT.so.1"
    installed = sorted(Path("/usr/lib").glob(f"*-linux-*/faketime/{name}"))
    if installed and shutil.which("faketime"):
        return installed[0]
    root = unpacked(CACHE / "faketime", "libfaketime", title="libfaketime", needed="libfaketime")
    found = sorted(root.glob(f"usr/lib/*/faketime/{name}"))
    if not found:
        raise ServerMissing(f"{root} holds no {name}: remove that folder")
    return found[0]
