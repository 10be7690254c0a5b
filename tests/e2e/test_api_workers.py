"""The worker processes of the API end with their master, however it ends: none keeps the port for itself."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from assistance.storage.migrate import migrate
from tests.e2e.installation import Installation, wait_until
from tests.servers.postgres import children_of, is_running


@pytest.fixture
def running(tmp_path: Path, database_url: str) -> Iterator[Installation]:
    migrate(database_url)
    made = Installation(tmp_path, database_url, "memory:")
    yield made
    made.stop()


def _workers_of(master: int) -> list[int]:
    return children_of(master)


def _wait_until_it_answers(running: Installation) -> None:
    wait_until(lambda: running.get("/livez")[0] == 200, seconds=30, what="the API answers")


@pytest.mark.parametrize("when", ["while it starts", "while it serves"])
def test_a_worker_ends_with_a_master_that_is_killed(running: Installation, when: str) -> None:
    running._start("api")
    master = running.processes["api"].pid
    if when == "while it serves":
        _wait_until_it_answers(running)
    wait_until(lambda: _workers_of(master) != [], seconds=30, what="there is a worker")
    workers = _workers_of(master)
    os.kill(master, signal.SIGKILL)
    wait_until(lambda: not any(map(is_running, workers)), seconds=30, what="the workers are gone")


def test_a_worker_that_stands_still_when_it_is_asked_to_stop_ends_with_its_master(running: Installation) -> None:
    running._start("api")
    _wait_until_it_answers(running)
    master = running.processes["api"].pid
    (worker,) = _workers_of(master)
    os.kill(worker, signal.SIGSTOP)
    os.kill(master, signal.SIGKILL)
    wait_until(lambda: not is_running(worker), seconds=30, what="the worker is gone")
