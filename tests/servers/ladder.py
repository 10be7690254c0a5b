"""Ways to get a server for the whole session, best first: the environment, a Docker engine, local binaries."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from assistance.domain.errors import AssistanceError
from assistance.embedded.postgres import EmbeddedPostgresError, PostgresServer
from assistance.storage.database import raw_connection
from tests.servers.missing import ServerMissing
from tests.servers.rabbit import RabbitControl, RabbitServer, make_vhosts

POSTGRES_IMAGE = "postgres:18-alpine"
RABBIT_IMAGE = "rabbitmq:4-management-alpine"
_MANAGEMENT_PORT = 15672
_READY_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: plain data, because the processes of a test run hand it to one another.

    Virtual hosts are made through `control` (private RabbitMQ) or else through `management`, the HTTP address.
    """

    url: str
    version: str
    how: str
    management: str | None = None
    control: RabbitControl | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Server:
        control = data["control"] and RabbitControl(**data["control"])
        return cls(**{**data, "control": control})

    def vhost_url(self, name: str) -> str:
        return urlunsplit(urlsplit(self.url)._replace(path="/" + quote(name, safe="")))

    def change_vhosts(self, new: list[str], drop: list[str]) -> None:
        """Create and drop virtual hosts."""
        if self.control is not None:
            make_vhosts(self.control, new, drop=drop)
            return
        user = quote(urlsplit(self.url).username or "guest", safe="")
        for name in new:
            self.manage("PUT", f"vhosts/{quote(name, safe='')}", {})
            everything = {"configure": ".*", "write": ".*", "read": ".*"}
            self.manage("PUT", f"permissions/{quote(name, safe='')}/{user}", everything)
        for name in drop:
            self.manage("DELETE", f"vhosts/{quote(name, safe='')}")

    def manage(self, method: str, path: str, body: object = None) -> bytes:
        """Call RabbitMQ's management API. Raises `OSError`."""
        parts = urlsplit(self.url)
        secret = base64.b64encode(f"{parts.username or 'guest'}:{parts.password or 'guest'}".encode()).decode()
        request = urllib.request.Request(
            f"{self.management}/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Basic {secret}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            content: bytes = answer.read()
        return content


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[Server]:
    """PostgreSQL from the first rung that holds. Raises `ServerMissing`."""
    with contextlib.ExitStack() as stack:
        url = os.environ.get("ASSISTANCE_TEST_DATABASE_URL")
        how = "ASSISTANCE_TEST_DATABASE_URL"
        if not url:
            url, how = _postgres_container(stack), f"container {POSTGRES_IMAGE}"
        if not url:
            # Nobody kills this one: what it holds is thrown away, and need not wait for the disk.
            server = PostgresServer(folder, settings={"max_connections": "200", "fsync": "off"})
            try:
                server.start()
            except EmbeddedPostgresError as error:
                raise ServerMissing(str(error)) from error
            stack.callback(server.stop)
            url, how = server.url, "private instance"
        yield Server(url, _postgres_version(url), how)


@contextlib.contextmanager
def rabbit(folder: Path) -> Iterator[Server]:
    """RabbitMQ from the first rung that holds. Raises `ServerMissing`."""
    with contextlib.ExitStack() as stack:
        url = os.environ.get("ASSISTANCE_TEST_BROKER_URL")
        if url:
            host = urlsplit(url).hostname
            yield _managed(url, f"http://{host}:{_MANAGEMENT_PORT}", "ASSISTANCE_TEST_BROKER_URL")
            return
        container = _rabbit_container(stack)
        if container:
            yield container
            return
        server = RabbitServer(folder)
        server.start()
        stack.callback(server.stop)
        how = f"private instance, {server.how}"
        yield Server(server.url, server.version, how, control=server.control)


def _postgres_version(url: str) -> str:
    try:
        with raw_connection(url) as connection:
            row = connection.execute("SHOW server_version").fetchone()
    except AssistanceError as error:
        raise ServerMissing(f"PostgreSQL does not answer: {error}") from error
    assert row is not None
    return str(row[0]).split()[0]


def _managed(url: str, management: str, how: str) -> Server:
    """A broker that is not ours to control, seen through its management plug-in."""
    server = Server(url, "", how, management=management)
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            overview = json.loads(server.manage("GET", "overview"))
        except OSError as error:
            if how == "ASSISTANCE_TEST_BROKER_URL" or time.monotonic() > deadline:
                reason = f"the broker's management plug-in does not answer at {management}: {error}"
                raise ServerMissing(reason) from error
            time.sleep(0.2)
        else:
            return Server(url, overview["rabbitmq_version"], how, management=management)


def _docker_answers() -> bool:
    import docker  # type: ignore[import-untyped]

    with contextlib.closing(docker.from_env(timeout=5)) as client:
        return bool(client.ping())


def _postgres_container(stack: contextlib.ExitStack) -> str | None:
    try:
        if not _docker_answers():
            return None
        from testcontainers.community.postgres import PostgresContainer

        container = stack.enter_context(PostgresContainer(POSTGRES_IMAGE, driver=None))
        return str(container.get_connection_url())
    except Exception:  # noqa: BLE001 (whatever is wrong with Docker, the next rung may hold)
        return None


def _rabbit_container(stack: contextlib.ExitStack) -> Server | None:
    try:
        if not _docker_answers():
            return None
        from testcontainers.community.rabbitmq import RabbitMqContainer

        container = RabbitMqContainer(RABBIT_IMAGE).with_exposed_ports(_MANAGEMENT_PORT)
        stack.enter_context(container)
        host = container.get_container_host_ip()
        url = f"amqp://guest:guest@{host}:{container.get_exposed_port(5672)}/%2F"
        management = f"http://{host}:{container.get_exposed_port(_MANAGEMENT_PORT)}"
        return _managed(url, management, f"container {RABBIT_IMAGE}")
    except Exception:  # noqa: BLE001 (whatever is wrong with Docker, the next rung may hold)
        return None
