"""A PostgreSQL primary with a synchronous standby; the standby can be promoted and a new one built, again and again."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from assistance.domain.errors import DatabaseUnavailable
from assistance.embedded.ports import free_port
from assistance.embedded.postgres import EmbeddedPostgresError
from assistance.runtime.clock import Deadline
from assistance.storage.database import raw_connection
from tests.servers.postgres import ControlledPostgres

#: Every commit waits for a standby, whichever it is: without one nothing is acknowledged.
_SETTINGS = {"synchronous_standby_names": "*", "synchronous_commit": "on", "max_wal_senders": "10"}
_STREAMING_SECONDS = 30


class Standby(ControlledPostgres):
    """A copy of a running primary that follows it, with the same password, until it is promoted."""

    def copy_from(self, primary: ControlledPostgres) -> None:
        """Take a base backup and start to follow. Raises `EmbeddedPostgresError`."""
        self._prepare_folder()
        password = urlsplit(primary.url).password or ""
        self._remember("password", password)
        command = [str(self._found().folder / "pg_basebackup"), "-D", str(self._data), "-R", "-c", "fast"]
        done = self._identity.run([*command, "-d", primary.url.rpartition("/")[0]])
        if done.returncode != 0:
            raise EmbeddedPostgresError(f"no base backup: {done.stdout}")
        self.start()

    def promote(self) -> None:
        """Become a primary; returns when it takes writes."""
        with raw_connection(self.url) as connection:
            connection.execute("SELECT pg_promote(true, 30)")

    def _becomes_ready(self, process: subprocess.Popen[bytes], deadline: Deadline) -> bool:
        """A standby never says "ready" in its lock file."""
        while process.poll() is None and not deadline.has_passed:
            with contextlib.suppress(FileNotFoundError, IndexError):
                if (self._data / "postmaster.pid").read_text().splitlines()[7].strip() in ("standby", "ready"):
                    return True
            time.sleep(0.02)
        return False


class PostgresCluster:
    """Two places; one holds the primary, the other its standby. `url` names both."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self._folder = folder.resolve()
        self._settings = {**_SETTINGS, **settings}
        self._ports = [free_port(), free_port()]
        self._built = 0
        self.primary: ControlledPostgres = ControlledPostgres(
            self._folder / "first", port=self._ports[0], settings={"synchronous_commit": "on"}
        )
        self.standby: Standby | None = None

    @property
    def url(self) -> str:
        parts = urlsplit(self.primary.url)
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._ports)
        return parts._replace(netloc=f"{parts.username}:{parts.password}@{hosts}").geturl()

    @property
    def version(self) -> str:
        return self.primary.version

    def start(self, prepare: Callable[[str], object]) -> None:
        """Start the primary, let `prepare` fill it, and start the standby. Raises `EmbeddedPostgresError`."""
        self.primary.start()
        prepare(self.primary.url)
        self.primary.stop()
        self.primary = ControlledPostgres(self._folder / "first", port=self._ports[0], settings=self._settings)
        self.primary.start()
        self.build_standby()

    def build_standby(self) -> None:
        """Give the primary a standby in the free place; returns when commits wait for it."""
        port = next(port for port in self._ports if port != self.primary.port)
        self._built += 1
        self.standby = Standby(self._folder / f"copy{self._built}", port=port, settings=self._settings)
        self.standby.copy_from(self.primary)
        deadline = time.monotonic() + _STREAMING_SECONDS
        while self._sync_state() != "sync":
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(f"the standby did not follow within {_STREAMING_SECONDS} s")
            time.sleep(0.05)

    def fail_over(self) -> None:
        """Kill the primary and promote the standby; nothing is acknowledged until a new standby is built."""
        assert self.standby is not None
        lost = self.primary
        lost.kill()
        self.standby.promote()
        self.primary, self.standby = self.standby, None
        lost.remove()

    def stop(self) -> None:
        for server in (self.primary, self.standby):
            if server is not None:
                server.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _sync_state(self) -> str | None:
        try:
            with raw_connection(self.primary.url) as connection:
                row = connection.execute(
                    "SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'"
                ).fetchone()
        except (DatabaseUnavailable, psycopg.Error):
            return None
        return str(row[0]) if row else None
