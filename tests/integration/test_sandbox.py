"""The sandbox's Slack end, asked by the client that really asks it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from slack_sdk.errors import SlackApiError

from assistance.embedded.sandbox import Sandbox
from tests.sandbox_client import call, control, messages, refusal, slack

METADATA = {"event_type": "assistance_delivery", "event_payload": {"delivery_id": "d-1"}}


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    running = Sandbox("127.0.0.1", 0, 0, tmp_path / "sandbox")
    running.start()
    yield running
    running.stop()


def test_a_posted_message_is_shown_with_its_text_blocks_and_metadata(sandbox: Sandbox) -> None:
    blocks = [{"type": "section", "text": {"type": "plain_text", "text": "Hello"}}]
    answer = slack(sandbox).chat_postMessage(channel="C1", text="Hello", blocks=blocks, metadata=METADATA)
    (shown,) = messages(sandbox)["slack"]["C1"]
    assert (shown["ts"], shown["text"]) == (answer["ts"], "Hello")
    assert (shown["blocks"], shown["metadata"]) == (blocks, METADATA)


def test_a_page_that_had_its_own_name_lead_here_reads_and_orders_nothing(sandbox: Sandbox) -> None:
    slack(sandbox).chat_postMessage(channel="C1", text="Hello")
    for method, path in (("GET", "/messages"), ("POST", "/control"), ("POST", "/api/chat.postMessage")):
        for host in ("evil.example", f"evil.example:{sandbox.slack_port}", "localhost.evil.example", "a b"):
            connection = HTTPConnection("127.0.0.1", sandbox.slack_port, timeout=10)
            connection.request(method, path, b"" if method == "POST" else None, {"Host": host})
            answer = connection.getresponse()
            assert (answer.status, b"Hello" in answer.read()) == (421, False)
            connection.close()
    assert len(messages(sandbox)["slack"]["C1"]) == 1


def test_form_bodies_carry_structures_as_json_text(sandbox: Sandbox) -> None:
    client = slack(sandbox)
    client.api_call("chat.postMessage", data={"channel": "C1", "text": "Hi", "metadata": json.dumps(METADATA)})
    assert messages(sandbox)["slack"]["C1"][0]["metadata"] == METADATA


def test_every_message_gets_a_timestamp_of_its_own_that_grows(sandbox: Sandbox) -> None:
    with ThreadPoolExecutor(8) as pool:
        client = slack(sandbox)
        stamps = [
            str(a["ts"]) for a in pool.map(lambda n: client.chat_postMessage(channel="C1", text=f"{n}"), range(40))
        ]
    assert len(set(stamps)) == 40
    shown = [message["ts"] for message in messages(sandbox)["slack"]["C1"]]
    assert shown == sorted(stamps, key=float, reverse=True)


def test_history_pages_through_everything_once_newest_first(sandbox: Sandbox) -> None:
    client = slack(sandbox)
    posted = [client.chat_postMessage(channel="C1", text=f"{n}")["ts"] for n in range(7)]
    pages: list[list[str]] = []
    for page in client.conversations_history(channel="C1", limit=3):
        found: Any = page.get("messages")
        pages.append([message["ts"] for message in found])
    assert [ts for page in pages for ts in page] == posted[::-1]
    assert [len(page) for page in pages] == [3, 3, 1]


def test_history_limits_are_exclusive_unless_asked_to_be_inclusive(sandbox: Sandbox) -> None:
    client = slack(sandbox)
    a, b, c = (str(client.chat_postMessage(channel="C1", text=t)["ts"]) for t in "abc")

    def texts(**limits: Any) -> str:
        found: Any = client.conversations_history(channel="C1", **limits)["messages"]
        return "".join(message["text"] for message in found)

    assert texts(oldest=a, latest=c) == "b"
    assert texts(oldest=a, latest=c, inclusive=True) == "cba"
    assert texts(oldest=b) == "c"
    assert texts(latest=b) == "a"


def test_history_shows_metadata_only_when_asked(sandbox: Sandbox) -> None:
    client = slack(sandbox)
    client.chat_postMessage(channel="C1", text="x", metadata=METADATA)
    plain: Any = client.conversations_history(channel="C1")["messages"]
    full: Any = client.conversations_history(channel="C1", include_all_metadata=True)["messages"]
    assert "metadata" not in plain[0]
    assert full[0]["metadata"] == METADATA


@pytest.mark.parametrize(
    ("method", "arguments", "code"),
    [
        ("chat.postMessage", {"text": "x"}, "invalid_arguments"),
        ("chat.postMessage", {"channel": "C1"}, "no_text"),
        ("chat.postMessage", {"channel": "C1", "text": "x" * 40_001}, "msg_too_long"),
        ("chat.postMessage", {"channel": "C1", "text": "x", "blocks": "{"}, "invalid_blocks_format"),
        ("chat.postMessage", {"channel": "C1", "text": "x", "blocks": [1]}, "invalid_blocks"),
        ("chat.postMessage", {"channel": "C1", "text": "x", "metadata": {"a": 1}}, "invalid_metadata_schema"),
        ("chat.update", {"channel": "C1", "ts": "1.2", "text": "x"}, "message_not_found"),
        ("conversations.history", {"channel": "C1", "oldest": "yesterday"}, "invalid_ts_oldest"),
        ("conversations.history", {"channel": "C1", "limit": "0"}, "invalid_limit"),
        ("conversations.history", {"channel": "C1", "cursor": "nonsense"}, "invalid_cursor"),
        ("no.such", {}, "unknown_method"),
    ],
)
def test_wrong_arguments_are_refused_with_slacks_own_codes(
    sandbox: Sandbox, method: str, arguments: dict[str, Any], code: str
) -> None:
    with pytest.raises(SlackApiError) as error:
        slack(sandbox).api_call(method, json=arguments)
    assert refusal(error) == code


def test_a_call_without_a_token_is_not_authed(sandbox: Sandbox) -> None:
    for authorization in ("", "Bearer ", "Basic eDp5"):
        assert call(sandbox.slack_port, "/api/auth.test", b"", Authorization=authorization)[1] == {
            "ok": False,
            "error": "not_authed",
        }
    assert slack(sandbox).auth_test()["ok"]


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff", b"[" * 100_000, b'"x"'])
def test_a_broken_json_body_is_refused_and_the_connection_survives(sandbox: Sandbox, body: bytes) -> None:
    headers = {"Content-Type": "application/json", "Authorization": "Bearer x"}
    status, answer = call(sandbox.slack_port, "/api/chat.postMessage", body, **headers)
    assert (status, answer["ok"]) == (200, False)
    assert slack(sandbox).auth_test()["ok"]


def test_only_configured_conversations_exist(sandbox: Sandbox) -> None:
    control(sandbox, slack={"conversations": ["C1"]})
    slack(sandbox).chat_postMessage(channel="C1", text="x")
    with pytest.raises(SlackApiError) as error:
        slack(sandbox).chat_postMessage(channel="C2", text="x")
    assert refusal(error) == "channel_not_found"


def test_the_next_posts_fail_as_ordered_and_leave_no_message(sandbox: Sandbox) -> None:
    client = slack(sandbox)
    for kind, http_status in (("http_500", 500), ("ratelimited", 429), ("internal_error", 200)):
        control(sandbox, slack={"fail_next": 2, "with": kind, "retry_after": 7})
        for _ in range(2):
            with pytest.raises(SlackApiError) as error:
                client.chat_postMessage(channel="C1", text="x")
            assert error.value.response.status_code == http_status
            assert error.value.response.headers.get("Retry-After") == ("7" if http_status == 429 else None)
        assert client.conversations_history(channel="C1")["messages"] == []
    client.chat_postMessage(channel="C1", text="after")
    assert [message["text"] for message in messages(sandbox)["slack"]["C1"]] == ["after"]


def test_a_slow_post_takes_its_time_and_then_arrives(sandbox: Sandbox) -> None:
    control(sandbox, slack={"fail_next": 1, "with": "slow", "seconds": 0.3})
    began = time.monotonic()
    slack(sandbox).chat_postMessage(channel="C1", text="late")
    assert time.monotonic() - began >= 0.3
    assert messages(sandbox)["slack"]["C1"][0]["text"] == "late"


@pytest.mark.parametrize("orders", [b"", b"{", b'{"slack": {"fail_next": -1}}', b'{"sms": {}}'])
def test_orders_that_mean_nothing_are_refused_with_a_sentence(sandbox: Sandbox, orders: bytes) -> None:
    status, answer = call(sandbox.slack_port, "/control", orders)
    assert status == 400
    assert answer["error"]
