"""Channels that are out, as separate processes and operators see them: silent providers, revoked tokens, pauses."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import namedtuple_row

from assistance.resilience.circuit_breaker import MOST_SILENT_IN_A_ROW
from assistance.storage.migrate import migrate
from assistance.testing import FakeHttpServer, FakeSlack
from assistance.testing.behaviour import Trouble
from assistance.testing.http_server import Received, Reply
from tests.e2e.installation import Installation, wait_until

pytestmark = pytest.mark.timeout(240)

PROBE_AFTER = 0.5


class Endpoint(FakeHttpServer):
    """Hangs up on every call while it is `silent`; a connection that says nothing, as a check makes, is no call."""

    def __init__(self) -> None:
        super().__init__()
        self.silent = False
        self.calls: list[float] = []

    def serve(self, sock: socket.socket) -> None:
        if self.silent:
            self.script.upcoming.append(Trouble.CUT_BY_FIN)
        super().serve(sock)

    def take(self, request: Received) -> Reply:
        self.calls.append(time.monotonic())
        return super().take(request)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as server:
        yield server


@pytest.fixture
def slack() -> Iterator[FakeSlack]:
    with FakeSlack(token="xoxb-canary") as server:
        yield server


@pytest.fixture
def running(
    tmp_path: Path, database_url: str, broker_url: str, endpoint: Endpoint, slack: FakeSlack
) -> Iterator[Installation]:
    """Two consumer processes; `hook` and `sales` lead to servers that the test commands."""
    made = Installation(tmp_path, database_url, broker_url)
    file = tmp_path / "assistance.toml"
    text = file.read_text().replace('retry = "doomed"', 'retry = "quick"')
    text = text.replace(f":{made.hook_port}/", f":{endpoint.port}/").replace(f":{made.slack_port}/", f":{slack.port}/")
    file.write_text(text.replace('probe_after = "300ms"', f'probe_after = "{PROBE_AFTER}s"'))
    migrate(database_url)
    try:
        made.start("sandbox", *Installation.SERVICES)
        made.processes["second"] = made.processes.pop("consumer")
        made.start("consumer")
        yield made
    finally:
        made.stop()


def row(database_url: str, channel: str) -> Any:
    """What all consumers of a channel share; none while it never was out."""
    with psycopg.connect(database_url, row_factory=namedtuple_row) as connection:
        return connection.execute("SELECT * FROM channel_states WHERE channel = %s", (channel,)).fetchone()


def delivered(running: Installation, ids: list[str]) -> bool:
    return all(running.status_of(each) == "delivered" for each in ids)


def test_two_processes_probe_a_silent_channel_in_turn_and_the_backlog_drains_when_it_is_back(
    running: Installation, endpoint: Endpoint, database_url: str
) -> None:
    first = running.post_until_accepted("hook", "well")
    wait_until(lambda: running.status_of(first) == "delivered", seconds=30, what="the first is delivered")
    endpoint.silent = True
    ids = running.post_many("hook", 30)
    wait_until(lambda: row(database_url, "hook"), seconds=30, what="the breaker opened")
    # Each process opens by its own third silence at the latest, when its eight workers may have calls in hand.
    before_open = 1 + 2 * (MOST_SILENT_IN_A_ROW - 1 + 8)
    wait_until(lambda: len(endpoint.calls) >= before_open + 3, seconds=60, what="some probes were made")
    assert "Its circuit breaker is" in running.cli("channels", "check", "hook").stdout

    endpoint.silent = False
    recovered = time.monotonic()
    wait_until(lambda: delivered(running, ids), seconds=60, what="the backlog was delivered")
    probes = [at for at in endpoint.calls if at < recovered][before_open:]
    assert all(later - earlier >= PROBE_AFTER for earlier, later in itertools.pairwise(probes))
    assert row(database_url, "hook").breaker == "closed"
    assert running.cli("ledger").stdout.startswith("31 requests = 31 delivered\n")


def test_a_revoked_token_stops_its_channel_until_it_is_mended_and_nothing_dies_of_it(
    running: Installation, slack: FakeSlack, database_url: str
) -> None:
    slack.token = "another"
    ids = running.post_many("both", 10)
    wait_until(lambda: row(database_url, "sales-team"), seconds=30, what="it paused")
    assert row(database_url, "sales-team").pause_reason == "invalid_auth: Slack answered invalid_auth"
    wait_until(lambda: sum(running.mails().values()) == 10, seconds=30, what="the other channel went on")

    running.kill("consumer")  # a pause survives whoever found it
    running.kill("second")
    posts = sum("chat.postMessage" in call.target for call in slack.received)
    running.start("consumer")
    checks = len(slack.received)
    wait_until(lambda: len(slack.received) >= checks + 4, seconds=30, what="its configuration is checked")
    assert sum("chat.postMessage" in call.target for call in slack.received) == posts
    slack.token = "xoxb-canary"
    wait_until(lambda: delivered(running, ids), seconds=60, what="everything was delivered")
    assert len(slack.messages) == 10
    assert running.cli("ledger").stdout.startswith("10 requests = 10 delivered\n")
