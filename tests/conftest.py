"""Fixtures that give tests real servers. A missing server is a visible skip, and a failure with `CI=true`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest

from assistance.embedded.databases import create_database, drop_database
from assistance.embedded.postgres import EmbeddedPostgresError
from tests.certificates import Authority
from tests.servers import ControlledPostgres, RabbitServer, Server, ServerMissing, SharedServers
from tests.servers.chromium import Chromium
from tests.servers.chromium import chromium as find_chromium
from tests.servers.encrypted import EncryptedPostgres, EncryptedRabbit
from tests.servers.nginx import nginx_program
from tests.servers.promtool import promtool_program
from tests.servers.shared import database_url as url_of_database
from tests.servers.vhosts import FreshVhosts

_SERVERS = pytest.StashKey[SharedServers]()
_SKIPPED = "no server: "

Made = TypeVar("Made")


def pytest_configure(config: pytest.Config) -> None:
    worker: dict[str, Any] | None = getattr(config, "workerinput", None)
    if worker is None:
        config.stash[_SERVERS] = SharedServers.new_run()
    else:
        config.stash[_SERVERS] = SharedServers(Path(worker["servers_folder"]), worker["servers_owner"])


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tells a worker of pytest-xdist where the run's servers are."""
    servers = node.config.stash[_SERVERS]
    node.workerinput["servers_folder"] = str(servers.folder)
    node.workerinput["servers_owner"] = servers.owner


def pytest_unconfigure(config: pytest.Config) -> None:
    if _SERVERS in config.stash and not hasattr(config, "workerinput"):
        config.stash[_SERVERS].stop()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    used = config.stash[_SERVERS].seen()
    if used:
        terminalreporter.write_line("servers: " + ", ".join(f"{title} {what}" for title, what in used.items()))
    skipped = sum(_SKIPPED in str(report.longrepr) for report in terminalreporter.stats.get("skipped", ()))
    if skipped:
        terminalreporter.write_line(f"{skipped} tests did not run for want of a server", yellow=True, bold=True)


def _or_skip(get: Callable[[], Made]) -> Made:
    try:
        return get()
    except (ServerMissing, EmbeddedPostgresError) as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{_SKIPPED}{missing}", pytrace=False)
        pytest.skip(f"{_SKIPPED}{missing}")


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> SharedServers:
    return pytestconfig.stash[_SERVERS]


@pytest.fixture(scope="session")
def postgres_server(servers: SharedServers) -> Server:
    """The run's PostgreSQL; its `url` may create databases."""
    return _or_skip(lambda: servers.get("postgres"))


@pytest.fixture(scope="session")
def rabbit_server(servers: SharedServers) -> Server:
    """The run's RabbitMQ."""
    return _or_skip(lambda: servers.get("rabbit"))


@pytest.fixture(scope="session")
def promtool() -> Path:
    """Prometheus' checker of rules and configuration files."""
    return _or_skip(promtool_program)


@pytest.fixture(scope="session")
def chromium() -> Chromium:
    """The browser in which the console is tested."""
    return _or_skip(find_chromium)


@pytest.fixture(scope="session")
def nginx() -> Path:
    """The gateway's program. Missing it is a skip everywhere: its distribution need not have it."""
    try:
        return nginx_program()
    except ServerMissing as missing:
        pytest.skip(f"{_SKIPPED}{missing}")


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority whose certificates nobody trusts by himself."""
    return Authority(tmp_path_factory.mktemp("authorities") / "known")


@pytest.fixture(scope="module")
def encrypted_rabbit(
    servers: SharedServers, authority: Authority, unique_name: Callable[[], str]
) -> Iterator[EncryptedRabbit]:
    """A RabbitMQ of the file's own with an encrypted port, whose certificate is for 127.0.0.1."""
    certified = authority.issue("127.0.0.1")
    server = _or_skip(lambda: EncryptedRabbit(servers.folder / "own" / unique_name(), certified))
    try:
        server.start()
        yield server
    finally:
        server.kill()
        server.remove()


@pytest.fixture(scope="module")
def encrypted_postgres(
    servers: SharedServers, authority: Authority, unique_name: Callable[[], str]
) -> Iterator[EncryptedPostgres]:
    """A PostgreSQL of the file's own without a schema, reachable encrypted only, whose certificate is for 127.0.0.1."""
    try:
        server = EncryptedPostgres(servers.folder / "own" / unique_name())
    except ServerMissing as missing:  # a skip everywhere: not every distribution has one that is new enough
        pytest.skip(f"{_SKIPPED}{missing}")
    try:
        _or_skip(server.start)
        server.show(authority.issue("127.0.0.1"))
        yield server
    finally:
        server.stop()
        server.remove()


@pytest.fixture(scope="session")
def unique_name(servers: SharedServers) -> Callable[[], str]:
    """Names that no other test of this or another run uses."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    numbers = count(1)
    return lambda: f"{servers.folder.name}_{worker}_{next(numbers)}"


@pytest.fixture
def database_url(servers: SharedServers, postgres_server: Server, unique_name: Callable[[], str]) -> Iterator[str]:
    """A database of the test's own with the whole schema and nothing in it."""
    name = unique_name()
    create_database(postgres_server.url, name, template=servers.template(postgres_server))
    yield url_of_database(postgres_server.url, name)
    drop_database(postgres_server.url, name)


@pytest.fixture
def empty_database_url(postgres_server: Server, unique_name: Callable[[], str]) -> Iterator[str]:
    """A database of the test's own without any table."""
    name = unique_name()
    create_database(postgres_server.url, name)
    yield url_of_database(postgres_server.url, name)
    drop_database(postgres_server.url, name)


@pytest.fixture(scope="session")
def fresh_vhosts(rabbit_server: Server, unique_name: Callable[[], str]) -> FreshVhosts:
    return FreshVhosts(rabbit_server, unique_name)


@pytest.fixture
def broker_url(rabbit_server: Server, fresh_vhosts: FreshVhosts) -> Iterator[str]:
    """A virtual host of the test's own."""
    name = fresh_vhosts.take()
    yield rabbit_server.vhost_url(name)
    fresh_vhosts.give_back(name)


@pytest.fixture
def own_postgres(servers: SharedServers, unique_name: Callable[[], str]) -> Iterator[Callable[..., ControlledPostgres]]:
    """Makes started PostgreSQL servers that the test may stop, kill and freeze; always from local binaries.

    `migrated=False` leaves the database `assistance` empty; other arguments are settings of PostgreSQL.
    """
    made: list[ControlledPostgres] = []

    def make(*, migrated: bool = True, **settings: str) -> ControlledPostgres:
        server = ControlledPostgres(servers.folder / "own" / unique_name(), settings=settings)
        made.append(server)
        _or_skip(server.start)
        if migrated:
            from assistance.storage.migrate import migrate

            migrate(server.url)
        return server

    yield make
    for server in made:
        server.stop()
        server.remove()


@pytest.fixture
def own_rabbit(servers: SharedServers, unique_name: Callable[[], str]) -> Iterator[Callable[[], RabbitServer]]:
    """Makes started RabbitMQ servers that the test may stop, kill and start again; always from local binaries."""
    made: list[RabbitServer] = []

    def make() -> RabbitServer:
        server = _or_skip(lambda: RabbitServer(servers.folder / "own" / unique_name()))
        made.append(server)
        server.start()
        return server

    yield make
    for server in made:
        server.kill()
        server.remove()
