"""The sandbox's mail end, and that what it said yes to is kept, whatever happens."""

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
from collections.abc import Iterator
from pathlib import Path

import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from assistance.domain.errors import SettingsError
from assistance.embedded.ports import free_port
from assistance.embedded.sandbox import Sandbox, serve_sandbox
from assistance.embedded.sandbox.mail import read_mail
from assistance.embedded.sandbox.store import Store
from tests.sandbox_client import control, messages, refusal, send_mail, slack


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    running = Sandbox("127.0.0.1", 0, 0, tmp_path / "sandbox")
    running.start()
    yield running
    running.stop()


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
    assert messages(sandbox) == {"slack": {}, "mails": [], "callbacks": []}
    slack(sandbox).chat_postMessage(channel="C1", text="y")
    assert [message["text"] for message in messages(sandbox)["slack"]["C1"]] == ["y"]


def connected(port: int) -> socket.socket:
    """A connection, once somebody listens."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 1)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_serving_ends_when_told_even_with_open_connections(tmp_path: Path) -> None:
    stop = threading.Event()
    ports = [free_port(), free_port()]
    thread = threading.Thread(target=serve_sandbox, args=("127.0.0.1", ports[0], ports[1], tmp_path, stop))
    thread.start()
    idle = [connected(port) for port in ports]
    stop.set()
    thread.join(10)
    for connection in idle:
        connection.close()
    assert not thread.is_alive()
