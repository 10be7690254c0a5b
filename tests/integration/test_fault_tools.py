"""The faults that other tests rely on happen, and heal."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from assistance.broker.contract import Confirmation, ConnectionState
from assistance.broker.rabbitmq.publisher import RabbitPublisher
from assistance.storage.database import raw_connection
from tests.broker_tools import message, wait_until
from tests.servers import ControlledPostgres, RabbitServer, ServerMissing
from tests.servers.faults import (
    SteppedClock,
    disk_alarm,
    kill_a_backend,
    memory_alarm,
    postgres_on_a_small_disk,
)


def test_a_full_disk_refuses_writes_answers_reads_and_takes_writes_again_once_there_is_space(tmp_path: Path) -> None:
    try:
        with postgres_on_a_small_disk(tmp_path / "small") as (server, disk):
            pid = server.pid
            with raw_connection(server.url) as connection:
                connection.execute("CREATE TABLE notes (word text)")
                disk.fill()
                with pytest.raises(psycopg.errors.DiskFull):
                    for _ in range(100):
                        connection.execute("INSERT INTO notes SELECT repeat('x', 1000) FROM generate_series(1, 100)")
                assert connection.execute("SELECT 1").fetchone() == (1,)
                disk.free()
                connection.execute("INSERT INTO notes VALUES ('after')")
            assert server.pid == pid
    except ServerMissing as missing:
        pytest.skip(f"no server: {missing}")
    assert not (tmp_path / "small" / "postgres.log").exists()


@pytest.mark.parametrize("alarm", [disk_alarm, memory_alarm], ids=["disk", "memory"])
def test_an_alarm_blocks_publishers_until_it_is_over(own_rabbit: Callable[[], RabbitServer], alarm: Any) -> None:
    rabbit = own_rabbit()
    publisher = RabbitPublisher(rabbit.url, ["one"])
    try:
        wait_until(lambda: publisher.state is ConnectionState.READY)
        with alarm(rabbit):
            assert publisher.publish([message("held")], 0.5) == [Confirmation.UNKNOWN]
            wait_until(lambda: publisher.state is ConnectionState.BLOCKED)
        wait_until(lambda: publisher.state is ConnectionState.READY)
        assert publisher.publish([message("after")], 10) == [Confirmation.CONFIRMED]
    finally:
        publisher.close()


def test_killing_one_backend_ends_every_session_and_the_server_recovers(
    own_postgres: Callable[..., ControlledPostgres],
) -> None:
    server = own_postgres(migrated=False)
    assert kill_a_backend(server.url) is None
    with psycopg.connect(server.url, application_name="assistance-test", autocommit=True) as connection:
        assert kill_a_backend(server.url) == connection.info.backend_pid
        with pytest.raises(psycopg.OperationalError):
            for _ in range(100):
                connection.execute("SELECT pg_sleep(0.05)")

    def answers() -> bool:
        try:
            with psycopg.connect(server.url) as connection:
                return connection.execute("SELECT 1").fetchone() == (1,)
        except psycopg.OperationalError:
            return False

    wait_until(answers)


_TELL_THE_TIME = """
import json, sys, threading, time
for line in sys.stdin:
    began = time.monotonic()
    threading.Event().wait(0.05)
    print(json.dumps([time.time(), time.monotonic(), time.monotonic() - began]), flush=True)
"""


@pytest.fixture
def clock(tmp_path: Path) -> SteppedClock:
    try:
        return SteppedClock(tmp_path / "clock")
    except ServerMissing as missing:
        pytest.skip(f"no server: {missing}")


@pytest.fixture
def tell(clock: SteppedClock) -> Iterator[Callable[[], list[float]]]:
    with subprocess.Popen(
        [sys.executable, "-c", _TELL_THE_TIME],
        env=clock.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def ask() -> list[float]:
            stdin.write("?\n")
            stdin.flush()
            times: list[float] = json.loads(stdout.readline())
            return times

        yield ask


def test_the_clock_of_a_running_process_steps_forward_and_back_and_its_monotonic_clock_does_not(
    clock: SteppedClock, tell: Callable[[], list[float]]
) -> None:
    assert abs(tell()[0] - time.time()) < 5
    for offset, seconds in (("+1h", 3600), ("-1h", -3600), ("+10y", 10 * 365 * 86400), ("+0", 0)):
        clock.step(offset)
        wait_until(lambda seconds=seconds: abs(tell()[0] - time.time() - seconds) < 10)  # type: ignore[misc]
        _, monotonic, waited = tell()
        assert abs(monotonic - time.monotonic()) < 5, offset
        assert 0.04 < waited < 5, offset
