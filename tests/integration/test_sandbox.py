"""The sandbox is asked by the clients that really ask it: slack-sdk, smtplib and a plain HTTP client."""

from __future__ import annotations

import json
import os
import signal
import smtplib
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from assistance.domain.errors import SettingsError
from assistance.embedded.sandbox import Sandbox, serve_sandbox
from assistance.embedded.sandbox.mail import read_mail
from assistance.embedded.sandbox.store import Store

METADATA = {"event_type": "assistance_delivery", "event_payload": {"delivery_id": "d-1"}}


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    running = Sandbox("127.0.0.1", 0, 0, tmp_path / "sandbox")
    running.start()
    yield running
    running.stop()


def slack(sandbox: Sandbox, token: str | None = "xoxb-any", timeout: int = 10) -> WebClient:
    url = f"http://127.0.0.1:{sandbox.slack_port}/api/"
    return WebClient(token=token, base_url=url, retry_handlers=[], timeout=timeout)


def call(port: int, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def control(sandbox: Sandbox, **orders: Any) -> None:
    status, answer = call(sandbox.slack_port, "/control", json.dumps(orders).encode())
    assert status == 200, answer


def messages(sandbox: Sandbox) -> Any:
    return call(sandbox.slack_port, "/messages")[1]


def send_mail(port: int, subject: str = "Pricing", body: str = "How much?") -> None:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "bot@example.com", "pricing@example.com", subject
    mail.set_content(body)
    with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
        client.send_message(mail)


def refusal(error: pytest.ExceptionInfo[SlackApiError]) -> str:
    return str(error.value.response["error"])


def test_a_posted_message_is_shown_with_its_text_blocks_and_metadata(sandbox: Sandbox) -> None:
    blocks = [{"type": "section", "text": {"type": "plain_text", "text": "Hello"}}]
    answer = slack(sandbox).chat_postMessage(channel="C1", text="Hello", blocks=blocks, metadata=METADATA)
    (shown,) = messages(sandbox)["slack"]["C1"]
    assert (shown["ts"], shown["text"]) == (answer["ts"], "Hello")
    assert (shown["blocks"], shown["metadata"]) == (blocks, METADATA)


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


def test_an_updated_message_keeps_its_place_also_after_a_restart(tmp_path: Path) -> None:
    first = Sandbox("127.0.0.1", 0, 0, tmp_path)
    first.start()
    client = slack(first)
    ts = str(client.chat_postMessage(channel="C1", text="old")["ts"])
    client.chat_postMessage(channel="C1", text="later")
    client.chat_update(channel="C1", ts=ts, text="new")
    first.stop()
    again = Sandbox("127.0.0.1", 0, 0, tmp_path)
    again.start()
    assert [message["text"] for message in messages(again)["slack"]["C1"]] == ["later", "new"]
    again.stop()


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


def test_a_mail_is_shown_decoded(sandbox: Sandbox) -> None:
    send_mail(sandbox.smtp_port, "Größe €", "Wie teuer?\n.\nGruß")
    (mail,) = messages(sandbox)["mails"]
    assert (mail["subject"], mail["body"]) == ("Größe €", "Wie teuer?\n.\nGruß\n")
    assert (mail["from"], mail["to"]) == ("bot@example.com", ["pricing@example.com"])
    assert ["From", "bot@example.com"] in mail["headers"]


def test_the_next_mails_are_refused_as_ordered(sandbox: Sandbox) -> None:
    control(sandbox, smtp={"refuse_next": 1})
    with pytest.raises(smtplib.SMTPDataError) as error:
        send_mail(sandbox.smtp_port)
    assert error.value.smtp_code == 451
    assert messages(sandbox)["mails"] == []
    send_mail(sandbox.smtp_port)
    assert len(messages(sandbox)["mails"]) == 1


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00\xff\xfe",
        b"Subject: =?utf-8?b?!!!?= =?x-none?q?a?=\r\n\r\nx",
        b"Subject: \xff\xfe raw\r\nSubject: two\r\n\r\n\xff",
        b"Content-Type: text/plain; charset=nonsense\r\n\r\n\xffx",
        b"Content-Type: text/plain; charset=idna\r\nContent-Transfer-Encoding: base64\r\n\r\n====",
        b"Content-Type: multipart/mixed; boundary=\r\n\r\n--\r\n",
        b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + b"--a\r\nContent-Type: multipart/mixed\r\n\r\n" * 500,
        b"Content-Type: message/rfc822\r\n\r\n" * 2000,
        b"Content-Transfer-Encoding: x-uuencode\r\n\r\nbegin\r\n\xff",
        b"\r\n".join(b"X-%d: =?utf-8?q?=0D=0ABcc:_x?=" % n for n in range(50)),
    ],
)
def test_any_bytes_can_be_read_as_a_mail_and_written_as_utf_8(raw: bytes) -> None:
    json.dumps(read_mail(raw), ensure_ascii=False).encode()


def test_memory_is_bounded_in_number_and_size(tmp_path: Path) -> None:
    few = Store(tmp_path / "few", kept_records=3)
    small = Store(tmp_path / "small", kept_bytes=3_000)
    for number in range(10):
        few.add_slack("C1", {"text": f"{number}"})
        small.add_mail({"body": "x" * 1_000, "number": number})
    assert [message["text"] for message in few.conversation("C1")] == ["9", "8", "7"]
    assert [mail["number"] for mail in small.newest(10)["mails"]] == [9, 8]
    few.close()
    small.close()


def test_what_was_torn_by_a_crash_is_cut_off_and_the_rest_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = store.add_slack("C1", {"text": "whole"})
    store.close()
    with (tmp_path / "received.jsonl").open("ab") as log:
        log.write(b"\xff\x00 not json\n" + b'{"kind": "slack", "te')
    store = Store(tmp_path)
    second = store.add_slack("C1", {"text": "next"})
    store.close()
    store = Store(tmp_path)
    assert [message["text"] for message in store.conversation("C1")] == ["next", "whole"]
    assert float(second["ts"]) > float(first["ts"])
    store.close()


def test_a_folder_belongs_to_one_sandbox_at_a_time(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(SettingsError, match="Another sandbox"):
        Store(tmp_path)
    store.close()
    Store(tmp_path).close()


def test_a_port_in_use_is_one_sentence_and_leaves_the_folder_free(sandbox: Sandbox, tmp_path: Path) -> None:
    for slack_port, smtp_port in ((sandbox.slack_port, 0), (0, sandbox.smtp_port)):
        with pytest.raises(SettingsError, match="cannot listen on"):
            Sandbox("127.0.0.1", slack_port, smtp_port, tmp_path / "other")
    Store(tmp_path / "other").close()


def test_a_message_answered_with_yes_survives_kill_9(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, threading\n"
        "from assistance.embedded.sandbox import Sandbox\n"
        "sandbox = Sandbox('127.0.0.1', 0, 0, pathlib.Path(sys.argv[1]))\n"
        "sandbox.start()\n"
        "sys.stdout.write(f'{sandbox.slack_port} {sandbox.smtp_port}\\n')\n"
        "sys.stdout.flush()\n"
        "threading.Event().wait()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    slack_port, smtp_port = map(int, process.stdout.readline().split())
    client = WebClient(token="x", base_url=f"http://127.0.0.1:{slack_port}/api/", retry_handlers=[])
    confirmed: list[str] = []

    def post_until_it_dies() -> None:
        try:
            while True:
                confirmed.append(str(client.chat_postMessage(channel="C1", text=f"{len(confirmed)}")["ts"]))
        except Exception:  # noqa: BLE001 (whatever a dying server looks like to the client)
            return

    send_mail(smtp_port, "before")
    poster = threading.Thread(target=post_until_it_dies)
    poster.start()
    deadline = time.monotonic() + 20
    while len(confirmed) < 50 and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    poster.join()
    assert len(confirmed) >= 50
    store = Store(tmp_path)
    kept = [message["ts"] for message in store.conversation("C1")]
    assert set(confirmed) <= set(kept)
    assert len(kept) <= len(confirmed) + 1
    assert [mail["subject"] for mail in store.newest(10)["mails"]] == ["before"]
    store.close()


def test_a_full_disk_is_never_answered_with_yes(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("assistance.embedded.sandbox.store.os.fsync", refuse)
        with pytest.raises(SlackApiError) as error:
            slack(sandbox).chat_postMessage(channel="C1", text="x")
        assert refusal(error) == "fatal_error"
        with pytest.raises(smtplib.SMTPDataError):
            send_mail(sandbox.smtp_port)
    assert messages(sandbox) == {"slack": {}, "mails": []}
    slack(sandbox).chat_postMessage(channel="C1", text="y")
    assert [message["text"] for message in messages(sandbox)["slack"]["C1"]] == ["y"]


def test_serving_ends_when_told_even_with_open_connections(tmp_path: Path) -> None:
    stop = threading.Event()
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    thread = threading.Thread(target=serve_sandbox, args=("127.0.0.1", ports[0], ports[1], tmp_path, stop))
    thread.start()
    deadline = time.monotonic() + 10
    while True:
        try:
            idle = [socket.create_connection(("127.0.0.1", port), 1) for port in ports]
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    stop.set()
    thread.join(10)
    for connection in idle:
        connection.close()
    assert not thread.is_alive()
