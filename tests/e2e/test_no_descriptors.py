"""Processes that may open nothing more: they refuse or wait, and go on by themselves once they may."""

from __future__ import annotations

import resource
import socket
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.e2e.installation import Installation, installation, wait_until
from tests.proxy import Proxy, ResetPeer
from tests.servers.postgres import children_of, is_running

pytestmark = pytest.mark.timeout(300)


@contextmanager
def nothing_more_to_open(pid: int) -> Iterator[None]:
    """Let a process open no file and no connection beyond those that it has."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    opened = {int(file.name) for file in Path(f"/proc/{pid}/fd").iterdir()}
    lowest_free = min(set(range(len(opened) + 1)) - opened)  # a new one always gets the lowest number
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def test_without_descriptors_calls_are_refused_and_deliveries_wait_and_both_go_on_afterwards(
    tmp_path: Path, database_url: str, broker_url: str
) -> None:
    with installation(tmp_path, database_url, broker_url) as running:
        consumer = running.processes["consumer"].pid
        (api,) = children_of(running.processes["api"].pid)
        _wait_until_the_consumer_delivers(running)
        with nothing_more_to_open(consumer):
            running.post_until_accepted("sales", "while nothing can be sent")
            wait_until(lambda: _has_met_trouble(running), seconds=30, what="the consumer found out")
        with ExitStack() as idle, nothing_more_to_open(api):
            for _ in range(50):
                idle.enter_context(socket.create_connection(("127.0.0.1", running.http_port), timeout=5))
            status, body = running.post("sales", "while nobody can be let in", key=str(uuid.uuid4()), timeout=5)
            assert status in (0, 202, 503), body
        running.post_until_accepted("sales", "afterwards")
        wanted = {"before", "while nothing can be sent", "afterwards"}
        wait_until(lambda: wanted <= set(running.slack_messages()), seconds=60, what="all are at Slack")
        assert set(running.slack_messages().values()) == {1}
        wait_until(lambda: "violations" not in running.ledger(), seconds=30, what="the ledger closes")
        assert not any(line.get("answer") == "unknown" for line in running.log_lines("consumer"))
        assert running.processes["consumer"].poll() is None
        assert is_running(api)


def test_the_broker_lost_while_nothing_can_be_opened_is_found_again(
    tmp_path: Path, database_url: str, broker_url: str
) -> None:
    with Proxy(broker_url) as broker, installation(tmp_path, database_url, broker.url) as running:
        _wait_until_the_consumer_delivers(running)
        with nothing_more_to_open(running.processes["consumer"].pid):
            broker.add(ResetPeer())
            wait_until(lambda: _cannot_open(running), seconds=30, what="the consumer found out")
            broker.heal()
        running.post_until_accepted("sales", "afterwards")
        wait_until(lambda: "afterwards" in running.slack_messages(), seconds=60, what="it is at Slack")


def _wait_until_the_consumer_delivers(running: Installation) -> None:
    running.post_until_accepted("sales", "before")
    wait_until(lambda: "before" in running.slack_messages(), seconds=60, what="the consumer delivers")


def _cannot_open(running: Installation) -> bool:
    return any("Too many open files" in line.get("reason", "") for line in running.log_lines("consumer"))


def _has_met_trouble(running: Installation) -> bool:
    """It could not send, or not even reach the database, and says so."""
    lines = running.log_lines("consumer")
    return any(line.get("answer") == "retry_later" or line["level"] in ("warning", "error") for line in lines)
