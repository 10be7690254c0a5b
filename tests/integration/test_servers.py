"""The servers that other tests rely on: private ones, shared ones, and what remains when a run is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pika
import psycopg
import pytest

from assistance.embedded.ports import is_free
from tests.servers import ControlledPostgres, RabbitServer
from tests.servers.postgres import wait_until_gone

_PROJECT = Path(__file__).resolve().parents[2]

_START_RABBIT = """
import sys, time
from pathlib import Path
from tests.servers import RabbitServer
server = RabbitServer(Path(sys.argv[1]))
server.start()
print(server.pid, *server.ports, flush=True)
time.sleep(600)
"""
_START_SHARED = """
import time
from tests.servers import SharedServers
servers = SharedServers.new_run()
server = servers.get("postgres")
print((servers.folder / "postgres.keeper").read_text(), server.url, servers.folder, flush=True)
time.sleep(600)
"""
_NEEDS_A_BROKER = "def test_it(broker_url: str) -> None: pass"


def _publish(url: str, queue: str) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
    channel.basic_publish("", queue, b"kept", pika.BasicProperties(delivery_mode=2), mandatory=True)
    connection.close()


def _count(url: str, queue: str) -> int:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    count = connection.channel().queue_declare(queue, passive=True).method.message_count
    connection.close()
    return int(count)


def test_every_test_gets_a_broker_of_its_own(broker_url: str) -> None:
    _publish(broker_url, "same-name")
    assert _count(broker_url, "same-name") == 1


def test_every_test_gets_a_broker_of_its_own_again(broker_url: str) -> None:
    _publish(broker_url, "same-name")
    assert _count(broker_url, "same-name") == 1


@pytest.mark.parametrize("turn", [1, 2])
def test_every_test_gets_a_migrated_database_of_its_own(database_url: str, turn: int) -> None:
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM requests").fetchone() == (0,)
        connection.execute("DROP TABLE requests CASCADE")


def test_an_empty_database_has_no_tables(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url) as connection:
        row = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert row == (0,)


def test_an_own_postgres_has_the_schema(own_postgres: Callable[..., ControlledPostgres]) -> None:
    server = own_postgres(fsync="off")
    with psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT count(*) FROM requests").fetchone() == (0,)
        assert connection.execute("SHOW fsync").fetchone() == ("off",)


@pytest.mark.long  # the promise of the broker, which test_rabbitmq_faults relies on in each run
def test_confirmed_messages_survive_a_stop_and_a_kill_of_the_broker(own_rabbit: Callable[[], RabbitServer]) -> None:
    server = own_rabbit()
    url = server.new_vhost("tenant")
    _publish(url, "queue")
    server.restart()
    _publish(url, "queue")
    server.kill()
    assert server.pid is None
    server.start()
    _wait_until(lambda: _count(url, "queue") == 2)  # the number that is told lags behind a recovery
    assert "queue" in server.rabbitmqctl("list_queues", "-p", "tenant", "name")


@pytest.mark.long
def test_a_kill_of_the_starting_process_leaves_no_broker_and_no_port_mapper(
    tmp_path: Path, own_rabbit: Callable[[], RabbitServer]
) -> None:
    own_rabbit().stop()  # skips where there is none
    starter = _python(_START_RABBIT, str(tmp_path / "rabbit"))
    assert starter.stdout is not None
    group, *ports = [int(number) for number in starter.stdout.readline().split()]
    assert not any(is_free(port) for port in ports)
    starter.kill()
    starter.communicate()
    assert wait_until_gone(group)
    _wait_until(lambda: all(is_free(port) for port in ports))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_was_killed_leaves_neither_servers_nor_files(number: signal.Signals) -> None:
    run = _python(_START_SHARED)
    assert run.stdout is not None
    keeper, url, folder = run.stdout.readline().split()
    run.send_signal(number)
    run.communicate()
    assert wait_until_gone(int(keeper))
    assert is_free(urlsplit(url).port or 0)
    assert not Path(folder).exists()


def test_a_missing_server_is_a_visible_skip_on_a_laptop_and_a_failure_in_ci(tmp_path: Path) -> None:
    (tmp_path / "test_needs.py").write_text(_NEEDS_A_BROKER)
    nowhere = {"ASSISTANCE_TEST_BROKER_URL": "amqp://127.0.0.3:1/"}
    laptop = _pytest(tmp_path, {**nowhere, "CI": "false"})
    assert laptop.returncode == 0
    assert "1 skipped" in laptop.stdout
    assert "1 tests did not run for want of a server" in laptop.stdout
    ci = _pytest(tmp_path, {**nowhere, "CI": "true"})
    assert ci.returncode == 1
    assert "does not answer" in ci.stdout


def test_workers_of_one_run_share_a_server_and_the_summary_tells_which(tmp_path: Path, database_url: str) -> None:
    body = "def test_it_{0}(postgres_server, database_url): open('{0}', 'w').write(postgres_server.url)\n"
    (tmp_path / "test_shared.py").write_text("".join(body.format(name) for name in "ab"))
    done = _pytest(tmp_path, {}, "-n", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text()
    assert "servers: PostgreSQL " in done.stdout
    if not os.environ.get("ASSISTANCE_TEST_DATABASE_URL"):
        assert is_free(urlsplit((tmp_path / "a").read_text()).port or 0)


def _python(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], cwd=_PROJECT, stdout=subprocess.PIPE, text=True
    )


def _pytest(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "--rootdir", str(folder), *arguments, str(folder)],
        cwd=folder,
        env={**inherited, "PYTHONPATH": os.pathsep.join([str(_PROJECT), *filter(None, sys.path)]), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def _wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)
