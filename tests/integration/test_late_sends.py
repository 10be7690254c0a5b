"""A process that was stopped for a while after its claim: somebody else may have taken over meanwhile."""

from __future__ import annotations

import socket
import time
from collections import UserDict
from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import Connection

from assistance.channels import http
from assistance.channels.contract import DeliveryKey, Rendered, View
from assistance.channels.wire import NotConnected
from assistance.deliveries.lease import ToSend
from assistance.domain.outcome import Outcome
from assistance.runtime.clock import Deadline
from tests.builders import Line, ScriptedChannel, World

LEASE_SECONDS = 0.5


class Watching(ScriptedChannel):
    """Remembers how much time each send was given; rendering takes `stopped` seconds, as in a stopped process."""

    def __init__(self, stopped: float = 0.0) -> None:
        super().__init__()
        self.given: list[float] = []
        self._stopped = stopped

    def render(self, view: View) -> Rendered:
        time.sleep(self._stopped)
        return super().render(view)

    def send(self, rendered: Rendered, destination: Mapping[str, Any], key: DeliveryKey, deadline: Deadline) -> Outcome:
        self.given.append(deadline.remaining())
        return super().send(rendered, destination, key, deadline)


def deliver(world: World, channel: Watching, lease: float = LEASE_SECONDS) -> None:
    line = Line(world, {"people": channel}, lease=lease)
    try:
        world.submit()
        line.run_until(lambda: bool(channel.given))
    finally:
        line.stop()


def test_no_time_is_left_to_send_once_the_lease_is_nearly_over(world: World) -> None:
    channel = Watching(stopped=LEASE_SECONDS)

    deliver(world, channel)

    assert channel.given[0] == 0


def test_a_lease_counts_from_before_the_claim_and_not_from_its_commit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = world.database.run

    def slowly(work: Any, *arguments: Any) -> Any:
        def stopped_before_the_commit(connection: Connection) -> Any:
            done = work(connection)
            if isinstance(done, list) and isinstance(done[0], ToSend):
                time.sleep(LEASE_SECONDS)
            return done

        return run(stopped_before_the_commit, *arguments)

    monkeypatch.setattr(world.database, "run", slowly)
    channel = Watching()

    deliver(world, channel)

    assert channel.given[0] == 0


def test_a_send_that_is_not_late_gets_the_time_of_its_channel(world: World) -> None:
    channel = Watching()

    deliver(world, channel, lease=60.0)

    assert 0 < channel.given[0] <= world.configuration.channels["people"].timeout_seconds


def test_nothing_is_said_on_a_connection_that_was_made_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    deadline = Deadline.after(0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def stopped_after_connecting(host: str, port: int, *_: object) -> socket.socket:
            made = socket.create_connection((host, port))
            time.sleep(0.2)
            return made

        monkeypatch.setattr(http, "connect", stopped_after_connecting)
        endpoint = http.parse_endpoint(f"http://127.0.0.1:{server.getsockname()[1]}/")

        with pytest.raises(NotConnected):
            http.post(endpoint, b"{}", {}, deadline)

        said, _ = server.accept()
        with said:
            assert said.recv(100) == b""


class SlowToRead(UserDict[str, str]):
    """Headers of a process that is stopped while it puts its request together."""

    def __getitem__(self, name: str) -> str:
        time.sleep(0.2)
        return super().__getitem__(name)


def test_nothing_is_said_when_the_process_was_stopped_while_it_put_the_request_together() -> None:
    deadline = Deadline.after(0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = http.parse_endpoint(f"http://127.0.0.1:{server.getsockname()[1]}/")
        with pytest.raises(NotConnected):
            http.post(endpoint, b"{}", SlowToRead(a="b"), deadline)
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()
