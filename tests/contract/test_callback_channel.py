"""What is particular to callbacks: two signatures, a body fixed long ago, and nothing but success ends them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook

from assistance.channels import callback
from assistance.channels.contract import Channel, Rendered
from assistance.channels.webhook import new_secret
from assistance.domain.outcome import Delivered, Outcome, Rejected, RejectionReason, RetryLater
from assistance.runtime.clock import Deadline
from assistance.testing.channel_contract import new_key
from assistance.testing.http_server import FakeHttpServer, Reply
from tests.contract.channel_tools import DESTINATION, SIGNING_SECRET, assert_ended_as, built

PAYLOAD = {"type": "assistance.delivered", "data": {"ref": "A-7F3K9Q"}}


@pytest.fixture
def provider() -> Iterator[FakeHttpServer]:
    with FakeHttpServer() as server:
        yield server


@pytest.fixture
def channel(provider: FakeHttpServer, monkeypatch: pytest.MonkeyPatch) -> Channel:
    monkeypatch.setenv("FAKE_SECRET", SIGNING_SECRET)
    return built(callback.CHANNEL_TYPE, webhooks={"bot": {"url": provider.url, "secret": "env:FAKE_SECRET"}})


def send(channel: Channel, destination: dict[str, Any] | None = None, *, series: int = 1) -> Outcome:
    rendered = Rendered(text="", content=PAYLOAD)
    key = new_key(series)
    return channel.send(rendered, destination or {"configured": "bot"}, key, Deadline.after(5))


def test_while_a_secret_is_replaced_both_verify(channel: Channel, provider: FakeHttpServer) -> None:
    secrets = (new_secret(), new_secret())
    destination = {"url": provider.url, "secrets": tuple(map(SecretStr, secrets))}
    assert isinstance(send(channel, destination), Delivered)
    (request,) = provider.received
    for secret in secrets:
        assert Webhook(secret).verify(request.body, dict(request.headers)) == PAYLOAD
    assert request.headers["webhook-signature"].count("v1,") == 2


@pytest.mark.parametrize(
    ("http_status", "expected"),
    [
        (200, Delivered),
        (204, Delivered),
        (302, RetryLater),
        (400, RetryLater),
        (401, RetryLater),
        (404, RetryLater),
        (422, RetryLater),
        (429, RetryLater),
        (500, RetryLater),
        (410, RejectionReason.GONE),
    ],
)
def test_whatever_is_no_success_is_tried_again_but_gone_is_final(
    channel: Channel, provider: FakeHttpServer, http_status: int, expected: Any
) -> None:
    provider.script.upcoming.append(Reply(http_status=http_status, headers={"Location": f"{provider.url}elsewhere"}))
    assert_ended_as(send(channel), expected)
    assert provider.connections == 1


@pytest.mark.parametrize(
    ("http_status", "asked", "waits"),
    [(503, "120", 120), (429, "86400", 3600), (502, "7", 7), (504, "0", 1), (500, "120", None), (503, None, None)],
)
def test_a_wait_is_granted_for_an_hour_at_most_and_only_to_who_may_ask(
    channel: Channel, provider: FakeHttpServer, http_status: int, asked: str | None, waits: float | None
) -> None:
    headers = {"Retry-After": asked} if asked else {}
    provider.script.upcoming.append(Reply(http_status=http_status, headers=headers))
    outcome = send(channel)
    assert isinstance(outcome, RetryLater)
    assert outcome.retry_after_seconds == waits


@pytest.mark.parametrize(
    "destination",
    [
        {"configured": "unknown"},
        {"configured": ["bot"]},
        {"url": "https://bot.example.com/"},
        {"url": "http://127.0.0.1:1/", "secrets": (SecretStr(SIGNING_SECRET),)},
        {"url": "https://127.0.0.1/", "secrets": (SecretStr(SIGNING_SECRET),)},
    ],
    ids=["unknown", "no name", "no secret", "plain", "an address"],
)
def test_a_destination_that_callbacks_may_not_go_to_is_rejected(
    channel: Channel, provider: FakeHttpServer, destination: dict[str, Any]
) -> None:
    outcome = send(channel, destination)
    assert_ended_as(outcome, DESTINATION)
    assert isinstance(outcome, Rejected)
    assert provider.connections == 0


def test_the_webhooks_of_the_operator_are_shown_without_their_secrets(
    provider: FakeHttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SECRET", SIGNING_SECRET)
    options = callback.CallbackOptions.model_validate(
        {"webhooks": {"bot": {"url": f"{provider.url}secret-path", "secret": "env:FAKE_SECRET"}}}
    )
    shown = f"{options!r} {callback.CallbackChannel(options).destination}"
    assert not any(secret in shown for secret in ("secret-path", SIGNING_SECRET))
