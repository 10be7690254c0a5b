"""Connections that stay open between calls: used again when that is safe, never at the price of a second message."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from assistance.channels import callback, http, kept, slack, webhook, wire
from assistance.channels.contract import Channel, Rendered
from assistance.channels.http_line import Line
from assistance.channels.kept import Kept
from assistance.channels.webhook import new_secret
from assistance.domain.outcome import Delivered, Found, Rejected, Unknown
from assistance.runtime.clock import Deadline, monotonic, utc_now
from assistance.testing.channel_contract import new_key
from assistance.testing.http_server import FakeHttpServer, Raw, Received, Reply
from assistance.testing.slack_server import FakeSlack
from tests.builders import eventually
from tests.certificates import Authority
from tests.contract.channel_tools import SIGNING_SECRET, TOKEN, built, deliver


class Keeping(FakeHttpServer):
    """Serves one request after the other on a connection, until it is told to hang up."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = 0
        self._serving: set[socket.socket] = set()

    def serve(self, sock: socket.socket) -> None:
        self._serving.add(sock)
        try:
            while sock.recv(1, socket.MSG_PEEK):
                super().serve(sock)
        finally:
            self._serving.discard(sock)
            self.ended += 1

    def take(self, request: Received) -> Reply:
        reply = super().take(request)
        return Reply(body=reply.body, headers={**reply.headers, "Connection": "keep-alive"})

    def hang_up(self) -> None:
        """Close every connection, as a server does with those that are idle for long."""
        for sock in list(self._serving):
            sock.shutdown(socket.SHUT_RDWR)
        eventually(lambda: not self._serving)


class KeepingSlack(Keeping, FakeSlack):
    pass


class OverTls(Keeping):
    """Speaks TLS from the first byte."""

    context: Any

    def serve(self, sock: socket.socket) -> None:
        # Reading ahead is not possible on an encrypted socket: this one serves until the other side leaves.
        with self.context.wrap_socket(sock, server_side=True) as secured, contextlib.suppress(ValueError):
            for _ in range(10):
                FakeHttpServer.serve(self, secured)


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TOKEN", TOKEN)
    monkeypatch.setenv("FAKE_SECRET", SIGNING_SECRET)


@pytest.fixture
def provider() -> Iterator[Keeping]:
    with Keeping() as server:
        yield server


@pytest.fixture
def channel(provider: Keeping) -> Channel:
    return built(webhook.CHANNEL_TYPE, url=f"{provider.url}hook", secret="env:FAKE_SECRET")


def test_several_messages_go_over_one_connection(channel: Channel, provider: Keeping) -> None:
    assert [type(deliver(channel)) for _ in range(3)] == [Delivered] * 3
    assert (len(provider.received), provider.connections) == (3, 1)


def test_messages_and_lookups_of_slack_share_a_connection() -> None:
    with KeepingSlack() as provider:
        channel = built(slack.CHANNEL_TYPE, token="env:FAKE_TOKEN", channel="C024BE91L", api_url=provider.api_url)
        key, since = new_key(), utc_now()
        assert isinstance(deliver(channel, key=key), Delivered)
        assert isinstance(channel.lookup(channel.destination, key, since, Deadline.after(5)), Found)
        assert provider.connections == 1


def test_an_encrypted_connection_is_used_again(trusted: Authority) -> None:
    with OverTls() as provider:
        provider.context = trusted.issue("127.0.0.1").server_side()
        url = f"https://127.0.0.1:{provider.port}/hook"
        channel = built(webhook.CHANNEL_TYPE, url=url, secret="env:FAKE_SECRET")
        assert [type(deliver(channel)) for _ in range(3)] == [Delivered] * 3
        assert (len(provider.received), provider.connections) == (3, 1)
        del channel  # which ends the connection, for which the server waits


def test_a_server_that_closed_an_idle_connection_costs_no_attempt_and_gets_nothing_twice(
    channel: Channel, provider: Keeping
) -> None:
    assert isinstance(deliver(channel), Delivered)
    provider.hang_up()
    assert isinstance(deliver(channel), Delivered)
    assert (len(provider.received), provider.connections) == (2, 2)


def test_a_used_connection_that_ends_after_the_message_went_out_is_unknown_and_nothing_is_sent_again(
    channel: Channel, provider: Keeping
) -> None:
    assert isinstance(deliver(channel), Delivered)
    provider.script.upcoming.append(Raw(wire=b""))
    closing = provider.take

    def take(request: Received) -> Reply:
        reply = closing(request)
        for sock in list(provider._serving):
            sock.shutdown(socket.SHUT_RDWR)
        return reply

    provider.take = take  # type: ignore[method-assign]
    assert isinstance(deliver(channel), Unknown)
    assert (len(provider.received), provider.connections) == (2, 1)


@pytest.mark.parametrize(
    "wire_",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", id="the server says so"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", id="an old server"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 500 No\r\n", id="too many bytes"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 9\r\n\r\nok", id="two lengths"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            id="two kinds of length",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok", id="an unknown coding"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70_000, id="a body not read whole"),
    ],
)
def test_an_answer_without_one_clear_end_is_the_last_on_its_connection(
    channel: Channel, provider: Keeping, wire_: bytes
) -> None:
    provider.script.upcoming.append(Raw(wire=wire_))
    assert isinstance(deliver(channel), Delivered)
    assert isinstance(deliver(channel), Delivered)
    assert provider.connections == 2


@pytest.mark.parametrize(
    "wire_",
    [
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", id="no content"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", id="chunks"),
        pytest.param(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", id="a refusal"),
    ],
)
def test_any_answer_with_a_clear_end_lets_the_next_call_follow(
    channel: Channel, provider: Keeping, wire_: bytes
) -> None:
    provider.script.upcoming.append(Raw(wire=wire_))
    deliver(channel)
    assert isinstance(deliver(channel), Delivered)
    assert provider.connections == 1


def test_what_nobody_asked_for_is_not_taken_for_an_answer(channel: Channel, provider: Keeping) -> None:
    assert isinstance(deliver(channel), Delivered)
    (sock,) = provider._serving
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    provider.script.upcoming.append(Reply(http_status=401))
    outcome = deliver(channel)
    assert isinstance(outcome, Rejected)
    assert provider.connections == 2


def test_idle_connections_are_closed_after_a_while(
    channel: Channel, provider: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "_IDLE_SECONDS", 0.05)
    deliver(channel)
    eventually(lambda: provider.ended == 1)
    assert isinstance(deliver(channel), Delivered)


def test_a_channel_that_goes_closes_its_connections(provider: Keeping) -> None:
    deliver(built(webhook.CHANNEL_TYPE, url=provider.url, secret="env:FAKE_SECRET"))
    eventually(lambda: provider.ended == 1, 2.0)


def test_connections_do_not_grow_old(channel: Channel, provider: Keeping, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_LONGEST_LIFE_SECONDS", 0.0)
    deliver(channel)
    deliver(channel)
    assert provider.connections == 2


def test_a_forked_process_makes_connections_of_its_own() -> None:
    mine: Kept[Line] = Kept()
    near, far = socket.socketpair()
    with near, far:
        mine.put("server", Line(near))
        child = os.fork()
        if child == 0:
            os._exit(0 if mine.take("server") is None else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert mine.take("server") is not None
        near.sendall(b"still mine")
        assert far.recv(100) == b"still mine"


def test_nothing_is_said_late_on_a_kept_connection(channel: Channel, provider: Keeping) -> None:
    deliver(channel)
    assert not isinstance(deliver(channel, seconds=0.0), Delivered | Unknown)
    assert len(provider.received) == 1


def test_a_server_that_keeps_still_is_left_at_the_deadline(channel: Channel, provider: Keeping) -> None:
    deliver(channel)
    provider.script.upcoming.append(
        Raw(wire=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nX: " + b"x" * 500, pause_seconds=0.05)
    )
    began = monotonic()
    assert isinstance(deliver(channel, seconds=0.3), Unknown)
    assert monotonic() - began < 2


@pytest.mark.parametrize(
    ("destination", "connections"),
    [
        pytest.param({"configured": "ours"}, 1, id="the operator's"),
        pytest.param({"url": "https://bot.example/", "secrets": (SecretStr(new_secret()),)}, 2, id="a bot's"),
    ],
)
def test_only_callbacks_to_the_operators_own_webhooks_share_a_connection(
    provider: Keeping, monkeypatch: pytest.MonkeyPatch, destination: dict[str, Any], connections: int
) -> None:
    def find_public(_host: str, _port: int, deadline: Deadline) -> wire.Addresses:
        return wire.resolve("127.0.0.1", provider.port, deadline)

    monkeypatch.setattr(http, "secure", lambda sock, _host: sock)
    options = {"webhooks": {"ours": {"url": f"{provider.url}ours", "secret": "env:FAKE_SECRET"}}}
    channel = callback.CallbackChannel(callback.CallbackOptions.model_validate(options), find_public)
    for _ in range(2):
        outcome = channel.send(Rendered(text="", content={}), destination, new_key(), Deadline.after(5))
        assert isinstance(outcome, Delivered)
    assert provider.connections == connections
