"""The servers that one test run shares: started when the first test asks, stopped by the process that owns the run."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from psycopg import sql

from assistance.embedded.databases import create_database
from assistance.storage.database import raw_connection
from tests.servers.ladder import Server
from tests.servers.locks import file_lock
from tests.servers.missing import ServerMissing
from tests.servers.postgres import is_running

_PROJECT = Path(__file__).resolve().parents[2]
_START_SECONDS = 300
_STOP_SECONDS = 40


class SharedServers:
    """A view of the run's folder, from its owner or from a worker of pytest-xdist."""

    def __init__(self, folder: Path, owner: int) -> None:
        self.folder = folder
        self.owner = owner
        self._keepers: list[subprocess.Popen[bytes]] = []

    @classmethod
    def new_run(cls) -> SharedServers:
        """The folder's name doubles as the prefix of databases and virtual hosts, hence no capitals and no dashes."""
        folder = Path(tempfile.gettempdir()) / f"assistance_test_{os.getpid()}_{time.time_ns() // 1_000_000 % 10**8}"
        folder.mkdir(mode=0o700)
        return cls(folder, os.getpid())

    def get(self, kind: str) -> Server:
        """The shared `postgres` or `rabbit`. Raises `ServerMissing`, or `RuntimeError` if it should have worked."""
        state_file = self.folder / f"{kind}.json"
        if not state_file.exists():
            with file_lock(self.folder / f"{kind}.lock"):
                self._start_keeper(kind, state_file)
        state = json.loads(state_file.read_text())
        if "missing" in state:
            raise ServerMissing(state["missing"])
        if "failed" in state:
            raise RuntimeError(state["failed"])
        return Server.from_json(state["server"])

    def template(self, server: Server) -> str:
        """The name of a database with the whole schema that tests copy, made by the first who asks."""
        name = f"{self.folder.name}_template"
        made = self.folder / "template.made"
        with file_lock(self.folder / "template.lock"):
            if not made.exists():
                from assistance.storage.migrate import migrate

                create_database(server.url, name)
                migrate(database_url(server.url, name))
                _close_for_sessions(server.url, name)
                made.touch()
        return name

    def seen(self) -> dict[str, str]:
        """One line on every server that was asked for."""
        lines = {}
        for kind, title in (("postgres", "PostgreSQL"), ("rabbit", "RabbitMQ")):
            with contextlib.suppress(FileNotFoundError):
                state = json.loads((self.folder / f"{kind}.json").read_text())
                server = state.get("server")
                missing = state.get("missing", "failed to start")
                lines[title] = f"{server['version']} ({server['how']})" if server else f"not available: {missing}"
        return lines

    def stop(self) -> None:
        """End every keeper with its server and remove the folder; for the owner of the run."""
        for file in self.folder.glob("*.keeper"):
            _end_process(int(file.read_text()))
        for keeper in self._keepers:
            keeper.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start_keeper(self, kind: str, state_file: Path) -> None:
        pid_file = self.folder / f"{kind}.keeper"
        if not pid_file.exists() or not is_running(int(pid_file.read_text())):
            with (self.folder / f"{kind}.log").open("ab") as log:
                keeper = subprocess.Popen(
                    [sys.executable, "-m", "tests.servers.keeper", kind, str(self.folder), str(self.owner)],
                    cwd=_PROJECT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            self._keepers.append(keeper)
            pid_file.write_text(str(keeper.pid))
        deadline = time.monotonic() + _START_SECONDS
        while not state_file.exists():
            if not is_running(int(pid_file.read_text())) and not state_file.exists():
                raise RuntimeError(f"the keeper of {kind} ended: {(self.folder / f'{kind}.log').read_text()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{kind} was not there within {_START_SECONDS} s")
            time.sleep(0.02)


def database_url(server_url: str, name: str) -> str:
    """The same server, another database."""
    base, _, parameters = server_url.partition("?")
    return f"{base.rpartition('/')[0]}/{name}" + (f"?{parameters}" if parameters else "")


def _close_for_sessions(server_url: str, name: str) -> None:
    """Nobody can connect to the template any more, which would stop others from copying it."""
    with raw_connection(server_url) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name)))


def _end_process(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(process)
        try:
            for number, seconds in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, 5)):
                signal.pidfd_send_signal(descriptor, number)
                if select.select([descriptor], [], [], seconds)[0]:
                    return
        finally:
            os.close(descriptor)
