"""Webhooks against a plain HTTP server: signatures that others accept, and what each status means."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from assistance.channels import webhook
from assistance.channels.contract import Channel
from assistance.domain.outcome import (
    Delivered,
    RetryLater,
    Unknown,
)
from assistance.testing.channel_contract import new_key
from assistance.testing.http_server import FakeHttpServer, Raw, Reply
from assistance.testing.smtp_server import FakeSmtp
from tests.certificates import Authority
from tests.contract.channel_tools import (
    CONFIGURATION,
    CONTENT,
    DESTINATION,
    SIGNING_SECRET,
    TOKEN,
    assert_ended_as,
    built,
    deliver,
)


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TOKEN", TOKEN)
    monkeypatch.setenv("FAKE_SECRET", SIGNING_SECRET)


@pytest.fixture
def provider() -> Iterator[FakeHttpServer]:
    with FakeHttpServer() as server:
        yield server


@pytest.fixture
def channel(provider: FakeHttpServer) -> Channel:
    return built(webhook.CHANNEL_TYPE, url=f"{provider.url}hook?a=1", secret="env:FAKE_SECRET")


def test_a_receiver_with_the_official_library_accepts_what_is_sent(channel: Channel, provider: FakeHttpServer) -> None:
    deliver(channel)
    (request,) = provider.received
    data = Webhook(SIGNING_SECRET).verify(request.body, dict(request.headers))
    assert (request.method, request.target) == ("POST", "/hook?a=1")
    assert data["type"] == "assistance.requested"
    assert data["data"]["description"] == "My invoice is wrong."


def test_the_id_stays_the_same_over_all_tries_of_a_series(channel: Channel, provider: FakeHttpServer) -> None:
    key = new_key()
    outcomes = [deliver(channel, key=key), deliver(channel, key=key), deliver(channel, key=new_key(series=2))]
    ids = [request.headers["webhook-id"] for request in provider.received]
    assert ids[0] == ids[1] != ids[2]
    assert outcomes[0] == Delivered(receipt={"status": 200, "webhook_id": ids[0]})


@pytest.mark.parametrize(
    ("http_status", "expected"),
    [
        (201, Delivered),
        (204, Delivered),
        (301, CONFIGURATION),
        (308, CONFIGURATION),
        (400, CONTENT),
        (422, CONTENT),
        (401, CONFIGURATION),
        (403, CONFIGURATION),
        (404, DESTINATION),
        (410, DESTINATION),
        (408, RetryLater),
        (425, RetryLater),
        (429, RetryLater),
        (500, RetryLater),
        (503, RetryLater),
        (103, Unknown),
    ],
)
def test_each_status_is_classified(channel: Channel, provider: FakeHttpServer, http_status: int, expected: Any) -> None:
    headers = {"Location": f"{provider.url}elsewhere"}
    provider.script.upcoming.append(Reply(http_status=http_status, headers=headers))
    outcome = deliver(channel)
    assert_ended_as(outcome, expected)
    assert provider.connections == 1


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [
        ("12", 12, 12),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 1, 1),
        ("Wed, 21 Oct 2093 07:28:00 GMT", 900, 900),
        ("junk", None, None),
    ],
)
def test_a_waiting_time_comes_in_seconds_or_as_a_date(
    channel: Channel, provider: FakeHttpServer, asked: str, least: float | None, most: float | None
) -> None:
    provider.script.upcoming.append(Reply(http_status=503, headers={"Retry-After": asked}))
    outcome = deliver(channel)
    assert isinstance(outcome, RetryLater)
    if least is None or most is None:
        assert outcome.retry_after_seconds is None
    else:
        assert outcome.retry_after_seconds is not None
        assert least <= outcome.retry_after_seconds <= most


def test_a_status_that_came_counts_even_when_the_body_breaks_off(channel: Channel, provider: FakeHttpServer) -> None:
    provider.script.upcoming.append(Raw(wire=b"HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\nshort"))
    assert isinstance(deliver(channel), Delivered)


def test_a_failed_tls_handshake_is_certainly_not_sent(tmp_path: Path) -> None:
    untrusted = Authority(tmp_path / "unknown").issue("127.0.0.1")
    for server in (FakeSmtp(tls=untrusted.server_side(), implicit_tls=True), FakeSmtp()):
        with server:
            url = f"https://127.0.0.1:{server.port}/"
            outcome = deliver(built(webhook.CHANNEL_TYPE, url=url, secret="env:FAKE_SECRET"))
        assert isinstance(outcome, RetryLater)
        assert outcome.code == "tls_failed"


def test_credentials_of_the_url_are_sent_as_a_header_and_shown_nowhere(
    provider: FakeHttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_URL", f"http://user:canary%20pass@127.0.0.1:{provider.port}/secret-path")
    options = webhook.CHANNEL_TYPE.options.model_validate({"url": "env:HOOK_URL", "secret": "env:FAKE_SECRET"})
    channel = webhook.CHANNEL_TYPE.build(options)
    provider.script.upcoming.append(Reply(http_status=401))
    shown = f"{options!r} {channel.destination} {deliver(channel)}"
    assert provider.received[0].headers["authorization"] == "Basic dXNlcjpjYW5hcnkgcGFzcw=="
    assert not any(secret in shown for secret in ("canary", "secret-path", SIGNING_SECRET))
