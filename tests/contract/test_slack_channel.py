"""Slack against its fake: what its answers mean, how long it is waited for, and how a message is looked up."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from assistance.channels import slack
from assistance.channels.contract import Channel
from assistance.domain.outcome import (
    CannotTell,
    Delivered,
    Found,
    Rejected,
    RetryLater,
    Unknown,
)
from assistance.runtime.clock import Deadline, monotonic, utc_now
from assistance.testing.channel_contract import example_view, new_key
from assistance.testing.http_server import Raw, Reply
from assistance.testing.slack_server import FakeSlack
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
def provider() -> Iterator[FakeSlack]:
    with FakeSlack() as server:
        yield server


@pytest.fixture
def channel(provider: FakeSlack) -> Channel:
    return built(slack.CHANNEL_TYPE, token="env:FAKE_TOKEN", channel="C024BE91L", api_url=provider.api_url)


def test_the_receipt_names_conversation_and_message(channel: Channel, provider: FakeSlack) -> None:
    outcome = deliver(channel)
    assert outcome == Delivered(receipt={"channel": "C024BE91L", "ts": provider.messages[0]["ts"]})


def test_a_message_is_posted_with_metadata_and_without_unfurling(channel: Channel, provider: FakeSlack) -> None:
    key = new_key(series=3)
    channel.send(channel.render(example_view()), channel.destination, key, Deadline.after(5))
    sent = provider.received[0].json
    assert sent["metadata"] == {
        "event_type": "assistance_delivery",
        "event_payload": {"delivery_id": str(key.delivery_id), "series": 3},
    }
    assert (sent["unfurl_links"], sent["unfurl_media"], sent["link_names"], sent["parse"]) == (
        False,
        False,
        False,
        "none",
    )


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("channel_not_found", DESTINATION),
        ("not_in_channel", DESTINATION),
        ("is_archived", DESTINATION),
        ("msg_too_long", CONTENT),
        ("invalid_blocks", CONTENT),
        ("invalid_auth", CONFIGURATION),
        ("token_revoked", CONFIGURATION),
        ("not_authed", CONFIGURATION),
        ("account_inactive", CONFIGURATION),
        ("missing_scope", CONFIGURATION),
        ("service_unavailable", RetryLater),
        ("request_timeout", RetryLater),
        ("a_code_of_tomorrow", RetryLater),
        ("internal_error", Unknown),
        ("fatal_error", Unknown),
    ],
)
def test_each_refusal_of_slack_is_classified(channel: Channel, provider: FakeSlack, code: str, expected: Any) -> None:
    provider.refuse_with(code)
    outcome = deliver(channel)
    assert_ended_as(outcome, expected)


@pytest.mark.parametrize(
    ("asked", "wait"), [("30", 30), ("0", 1), ("-1", 1), ("86400", 900), ("soon", 30), ("9" * 5000, 900), (None, 30)]
)
def test_slack_is_waited_for_as_long_as_it_asks_within_limits(
    channel: Channel, provider: FakeSlack, asked: str | None, wait: float
) -> None:
    headers = {"Retry-After": asked} if asked else {}
    provider.script.upcoming.append(Reply(http_status=429, headers=headers, accept=False))
    provider.refuse_with("ratelimited", headers=headers)
    for _ in range(2):
        outcome = deliver(channel)
        assert isinstance(outcome, RetryLater)
        assert outcome.retry_after_seconds == wait


@pytest.mark.parametrize(
    ("http_status", "expected"),
    [
        (500, Unknown),
        (502, Unknown),
        (503, RetryLater),
        (504, Unknown),
        (301, Rejected),
        (302, Rejected),
        (307, Rejected),
        (308, Rejected),
        (401, Rejected),
        (404, Rejected),
        (204, Unknown),
        (200, Unknown),
    ],
)
def test_an_answer_that_is_not_slacks_is_classified_by_its_status(
    channel: Channel, provider: FakeSlack, http_status: int, expected: type[object]
) -> None:
    headers = {"Location": f"{provider.url}elsewhere"}
    provider.script.upcoming.append(Reply(http_status=http_status, headers=headers, body=b"<html>", accept=False))
    assert isinstance(deliver(channel), expected)
    assert provider.connections == 1


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"ok"', b'{"ok": "yes"}', b"\xff\xfe", b"[" * 100_000])
def test_a_200_that_is_not_slacks_json_is_unknown(channel: Channel, provider: FakeSlack, body: bytes) -> None:
    provider.script.upcoming.append(Reply(body=body))
    assert isinstance(deliver(channel), Unknown)


def test_a_huge_answer_is_read_only_to_its_limit(channel: Channel, provider: FakeSlack) -> None:
    provider.script.upcoming.append(Reply(body=b" " * 50_000_000 + b'{"ok": true, "ts": "1.0"}'))
    assert isinstance(deliver(channel), Unknown)


def test_a_body_that_drips_is_unknown_at_the_deadline(channel: Channel, provider: FakeSlack) -> None:
    provider.script.upcoming.append(
        Raw(wire=b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + b" " * 999, pause_seconds=0.003)
    )
    started = monotonic()
    assert isinstance(deliver(channel, seconds=0.5), Unknown)
    assert monotonic() - started < 1.5


def test_proxy_variables_are_not_obeyed(channel: Channel, provider: FakeSlack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/")
    assert isinstance(deliver(channel), Delivered)


def test_the_library_still_does_all_its_http_through_the_method_that_is_replaced(
    channel: Channel, provider: FakeSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("the library opened a connection by itself")

    monkeypatch.setattr("slack_sdk.web.base_client.urlopen", forbidden)
    monkeypatch.setattr("slack_sdk.web.base_client.OpenerDirector.open", forbidden)
    assert isinstance(deliver(channel), Delivered)
    assert channel.check(Deadline.after(5)).problems == ()


def test_a_lookup_reads_page_after_page(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeSlack(page_size=3) as provider:
        channel = built(slack.CHANNEL_TYPE, token="env:FAKE_TOKEN", channel="C024BE91L", api_url=provider.api_url)
        key, since = new_key(), utc_now()
        sent = channel.send(channel.render(example_view()), channel.destination, key, Deadline.after(5))
        assert isinstance(sent, Delivered)
        for number in range(7):
            provider.post(text=f"chatter {number}")
        assert channel.lookup(channel.destination, key, since, Deadline.after(5)) == Found(receipt=sent.receipt)
        for number in range(40):
            provider.post(text=f"chatter {number}")
        answer = channel.lookup(channel.destination, key, since, Deadline.after(5))
        assert isinstance(answer, CannotTell)
        assert answer.code == "history_too_long"


@pytest.mark.parametrize(("code", "again"), [("ratelimited", True), ("internal_error", True), ("missing_scope", False)])
def test_a_refused_lookup_says_whether_to_look_again(
    channel: Channel, provider: FakeSlack, code: str, again: bool
) -> None:
    provider.refuse_with(code)
    answer = channel.lookup(channel.destination, new_key(), utc_now() - timedelta(minutes=1), Deadline.after(5))
    assert isinstance(answer, CannotTell)
    assert answer.look_again is again


def test_a_check_names_what_the_token_lacks(channel: Channel, provider: FakeSlack) -> None:
    provider.scopes = "channels:history"
    assert "chat:write" in " ".join(channel.check(Deadline.after(5)).problems)
    provider.scopes = "chat:write"
    assert "missing_scope" in " ".join(channel.check(Deadline.after(5)).problems)
    provider.token = "xoxb-other"
    assert "invalid_auth" in " ".join(channel.check(Deadline.after(5)).problems)


def _in_thread(provider: FakeSlack) -> dict[str, Any]:
    root = provider.post(text="The request.")
    return {"channel": "C024BE91L", "thread": {"channel": "C024BE91L", "ts": root["ts"]}}


def test_a_follow_up_is_posted_in_its_thread_and_found_there(channel: Channel, provider: FakeSlack) -> None:
    destination, key, since = _in_thread(provider), new_key(), utc_now() - timedelta(seconds=5)
    outcome = channel.send(channel.render(example_view()), destination, key, Deadline.after(5))
    assert isinstance(outcome, Delivered)
    assert provider.messages[-1]["thread_ts"] == destination["thread"]["ts"]
    found = channel.lookup(destination, key, since, Deadline.after(5))
    assert found == Found(receipt={"channel": "C024BE91L", "ts": provider.messages[-1]["ts"]})


def test_a_receipt_of_another_conversation_opens_no_thread(channel: Channel, provider: FakeSlack) -> None:
    destination = {"channel": "C024BE91L", "thread": {"channel": "C0ELSEWHERE", "ts": "1.2"}}
    channel.send(channel.render(example_view()), destination, new_key(), Deadline.after(5))
    assert "thread_ts" not in provider.messages[-1]


def test_a_request_that_was_confirmed_by_hand_opens_no_thread(channel: Channel, provider: FakeSlack) -> None:
    destination = {"channel": "C024BE91L", "thread": {"confirmed_by": "cli:ada"}}
    channel.send(channel.render(example_view()), destination, new_key(), Deadline.after(5))
    assert "thread_ts" not in provider.messages[-1]
