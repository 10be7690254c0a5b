"""The test stand: a PostgreSQL and a RabbitMQ of its own, and what rows need to know about them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pika
import pika.exceptions
from sqlalchemy import text

from assistance.broker.topology import queue_of
from assistance.clients.store import create
from assistance.conciliation.ledger import read_ledger
from assistance.embedded.ports import free_port
from assistance.embedded.postgres import DATABASE
from assistance.storage.database import Database, raw_connection
from assistance.storage.migrate import migrate
from bench.payload import CHANNEL, TOPIC
from bench.processes import cpu_seconds
from bench.sizes import DELIVERY_THREADS, HTTP_THREADS, HTTP_WORKERS
from tests.servers import ControlledPostgres, RabbitServer

ROOT = Path(__file__).parents[1]
SERVER_SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "max_connections": "300",
    "shared_preload_libraries": "pg_stat_statements",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
}
#: The bench's own role in the database, so that its statements are told from those of others.
ROLE = "bench"
#: A port on which nobody takes webhooks.
NOBODY = 9
_START_SECONDS = 40.0
_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
_TABLES = ("requests", "deliveries", "outbox", "idempotency_keys", "events", "attempts", "timers", "dead_letters")


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """A process that was started, and its port."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_for(self, path: str) -> float:
        """Seconds until the server answers there with anything but 503."""
        began = time.monotonic()
        while time.monotonic() - began < _START_SECONDS:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5).close()
            except urllib.error.HTTPError as error:
                if error.code != 503:
                    return time.monotonic() - began
            except OSError:
                pass
            else:
                return time.monotonic() - began
            time.sleep(0.005)
        raise AssertionError(f"{path} did not answer within {_START_SECONDS:g} s")


class Stand:
    """One PostgreSQL, one RabbitMQ, one sink for webhooks and one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.postgres = ControlledPostgres(folder / "postgres", settings=SERVER_SETTINGS)
        self.rabbit = RabbitServer(folder / "rabbit")
        self.key = ""
        self._tables, self._queues = list(_TABLES), [queue_of(CHANNEL)]
        self._running = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.postgres.start()
        self._running.callback(self.postgres.stop)
        self.rabbit.start()
        self._running.callback(self.rabbit.kill)
        migrate(self.postgres.url)
        with raw_connection(self.postgres.url) as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
            connection.execute(f"CREATE ROLE {ROLE} LOGIN SUPERUSER PASSWORD '{ROLE}'")
        own_url = f"postgresql://{ROLE}:{ROLE}@127.0.0.1:{self.postgres.port}/{DATABASE}"
        self.database = Database(own_url, pool_size=2, deadline_seconds=600)
        self._running.callback(self.database.close)
        with self.database.transaction() as connection:
            self.key = create(connection, "bench").text
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    @property
    def environment(self) -> dict[str, str]:
        """What every process of the comparison finds in its environment."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ASSISTANCE_")}
        return {
            **inherited,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}",
            "BENCH_DATABASE_URL": self.postgres.url,
            "BENCH_BROKER_URL": self.rabbit.url,
        }

    @contextlib.contextmanager
    def servers(self, channels: Sequence[str] = (CHANNEL,)) -> Iterator[Servers]:
        """What one row starts, with these channels; stopped at its end."""
        with contextlib.ExitStack() as running:
            yield Servers(self, running, channels)

    def count(self, query: str) -> int:
        """A number from the database."""
        with self.database.transaction() as connection:
            return int(connection.scalar(text(query)) or 0)

    def execute(self, *statements: str) -> None:
        with self.database.transaction() as connection:
            for statement in statements:
                connection.execute(text(statement))

    def also_clear(self, *tables: str, queue: str = "") -> None:
        """Clear these of a peer as well from now on."""
        self._tables += [table for table in tables if table not in self._tables]
        self._queues += [queue] if queue and queue not in self._queues else []

    def clear(self) -> None:
        """Forget every request, and every job and message about one."""
        self.execute(f"TRUNCATE {', '.join(self._tables)} CASCADE")
        for queue in self._queues:
            # Nobody may have made it yet.
            with self._amqp_channel() as channel, contextlib.suppress(pika.exceptions.ChannelClosedByBroker):
                channel.queue_purge(queue)

    def queued(self) -> int:
        """How many messages wait in the channel's queue."""
        with self._amqp_channel() as channel:
            return int(channel.queue_declare(queue_of(CHANNEL), passive=True).method.message_count)

    @contextlib.contextmanager
    def _amqp_channel(self) -> Iterator[Any]:
        with contextlib.closing(pika.BlockingConnection(pika.URLParameters(self.rabbit.url))) as connection:
            yield connection.channel()

    def ledger_trouble(self) -> str:
        """What keeps the ledger from closing; empty when it closes."""
        with self.database.transaction() as connection:
            violations = read_ledger(connection).violations
        return "; ".join(f"{count} {name}" for name, count in violations.items())


class Servers:
    """Starts processes for one row, and stops them with it."""

    def __init__(self, stand: Stand, running: contextlib.ExitStack, channels: Sequence[str]) -> None:
        self.stand = stand
        self._running = running
        self._channels = channels

    def sink(self) -> Server:
        """Who takes the webhooks."""
        port = free_port()
        server = self._start([sys.executable, "-m", "bench.sink", str(port)], port, {}, "sink")
        server.wait_for("/arrivals")
        return server

    def ours(self, command: str, sink_port: int = NOBODY, **more: str) -> Server:
        """`assistance COMMAND` with everything switched on that it has in production."""
        port = free_port()
        if command == "api":
            more["ASSISTANCE_HTTP_PORT"] = str(port)
        else:
            more["ASSISTANCE_METRICS_PORT"] = str(port)
        words = [sys.executable, "-m", "assistance", command]
        return self._start(words, port, self.settings(sink_port) | more, command)

    def settings(self, sink_port: int) -> dict[str, str]:
        """The settings of every process of ours."""
        configuration = self.stand.folder / f"assistance-{sink_port}.toml"
        sections = [
            f'[channels.{channel}]\ntype = "webhook"\nurl = "http://127.0.0.1:{sink_port}/"\n'
            'secret = "env:BENCH_SECRET"\n'
            for channel in self._channels
        ]
        configuration.write_text("\n".join([*sections, f'[topics]\n{TOPIC} = "{self._channels[0]}"\n']))
        return {
            "ASSISTANCE_DATABASE_URL": self.stand.postgres.url,
            "ASSISTANCE_BROKER_URL": self.stand.rabbit.url,
            "ASSISTANCE_CONFIG": str(configuration),
            "ASSISTANCE_HTTP_WORKERS": str(HTTP_WORKERS),
            "ASSISTANCE_HTTP_THREADS": str(HTTP_THREADS),
            "ASSISTANCE_WORKERS_PER_CHANNEL": str(DELIVERY_THREADS),
            "ASSISTANCE_CLIENT_RATE_PER_MINUTE": "1000000",
            "ASSISTANCE_CLIENT_OPEN_REQUESTS": "10000000",
            "ASSISTANCE_OUTBOX_LIMIT": "10000000",
            "BENCH_SECRET": _SECRET,
        }

    def view(self, module: str, python: str | None = None) -> Server:
        """A Flask application that is compared, behind the same web server with the same number of everything."""
        port = free_port()
        words = [python or sys.executable, "-m", "bench.serve", module, str(port), str(HTTP_WORKERS), str(HTTP_THREADS)]
        server = self._start(words, port, {}, module)
        server.wait_for("/livez")
        return server

    def command(
        self, words: Sequence[str], name: str, sink_port: int, port: int = 0, more: Mapping[str, str] | None = None
    ) -> Server:
        """Another program that takes part."""
        return self._start(words, port, {"BENCH_SINK_PORT": str(sink_port), **(more or {})}, name)

    def stop(self, server: Server) -> None:
        """Stop one before the row ends."""
        _stop(server.process)

    def _start(self, words: Sequence[str], port: int, more: Mapping[str, str], name: str) -> Server:
        log = self._running.enter_context((self.stand.folder / f"{name}.log").open("ab"))
        environment = {**self.stand.environment, **more}
        process = subprocess.Popen(
            words, cwd=self.stand.folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        self._running.callback(_stop, process)
        return Server(process=process, port=port)


def _stop(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def server_cpu(stand: Stand) -> dict[str, float]:
    """CPU seconds that PostgreSQL and RabbitMQ have used so far."""
    return {
        "PostgreSQL": cpu_seconds(stand.postgres.pid or 0),
        "RabbitMQ": cpu_seconds(stand.rabbit.pid or 0),
    }
