"""The page at /sandbox in front of a real sandbox."""

from __future__ import annotations

import re
import smtplib
import socket
import threading
import time
from collections.abc import Iterator
from email.message import EmailMessage
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import flask
import pytest
from slack_sdk import WebClient

from assistance.api.sandbox_page import sandbox_blueprint
from assistance.embedded.sandbox import Sandbox


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    running = Sandbox("127.0.0.1", 0, 0, tmp_path / "sandbox")
    running.start()
    yield running
    running.stop()


class Text(HTMLParser):
    """What a person reads, tags left out; remembers the tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.read = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.read += data


def page_of(url: str) -> tuple[flask.wrappers.Response, Text]:
    app = flask.Flask("test")
    app.register_blueprint(sandbox_blueprint(url))
    answer: Any = app.test_client().get("/sandbox")
    return answer, Text(answer.text)


def page(sandbox: Sandbox) -> Text:
    answer, text = page_of(f"http://127.0.0.1:{sandbox.slack_port}/")
    assert answer.status_code == 200
    return text


def post(sandbox: Sandbox, **message: Any) -> None:
    client = WebClient(token="x", base_url=f"http://127.0.0.1:{sandbox.slack_port}/api/", retry_handlers=[])
    client.api_call("chat.postMessage", json={"channel": "C0SALES", **message})


def mail(sandbox: Sandbox, subject: str, body: str) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "bot@example.com", "pricing@example.com", subject
    message.set_content(body)
    with smtplib.SMTP("127.0.0.1", sandbox.smtp_port, timeout=10) as client:
        client.send_message(message)


def test_messages_and_mails_are_shown_newest_first(sandbox: Sandbox) -> None:
    for number in ("first", "second"):
        post(sandbox, text=f"slack {number}")
        mail(sandbox, f"subject {number}", f"body {number}")
    read = page(sandbox).read
    assert 0 < read.index("slack second") < read.index("slack first")
    assert read.index("subject second") < read.index("body second") < read.index("subject first")
    assert "Slack channel C0SALES" in read
    assert "bot@example.com → pricing@example.com" in read


def test_an_empty_sandbox_shows_the_commands_to_try(sandbox: Sandbox) -> None:
    read = page(sandbox).read
    assert "curl http://localhost/assistance" in read
    assert '{"topic": "sales"' in read
    assert '{"topic": "pricing"' in read


def test_blocks_are_shown_as_the_text_that_a_person_sees(sandbox: Sandbox) -> None:
    blocks = [
        {"type": "header", "text": {"type": "plain_text", "text": "Sales &amp; more"}},
        {"type": "section", "text": {"type": "mrkdwn", "text": "1 &lt; 2 &amp;lt; <https://e.example|site> <!here>"}},
        {"type": "section", "fields": [{"type": "plain_text", "text": "Topic"}, {"type": "plain_text", "text": "x"}]},
        {"type": "divider"},
        {"type": "context", "elements": [{"type": "mrkdwn", "text": "A-1"}, {"type": "plain_text", "text": "12:00"}]},
        {"type": "rich_text", "elements": [{"elements": [{"type": "text", "text": "rich"}]}]},
    ]
    post(sandbox, text="fallback", blocks=blocks)
    read = page(sandbox).read
    assert "Sales & more\n1 < 2 &lt; site (https://e.example) @here\nTopic\nx\n——————————\nA-1 · 12:00\nrich" in read
    assert "fallback" not in read


def test_nothing_that_arrives_becomes_markup(sandbox: Sandbox) -> None:
    before = sorted(set(page(sandbox).tags))
    nasty = "<script>alert(1)</script><img src=x onerror=y>\"'</style>{{ 7*7 }}\ud800\0"
    post(sandbox, text=nasty.replace("<", "&lt;"), channel="</h2><b>")
    mail(sandbox, nasty.replace("\ud800", "").replace("\0", ""), "<iframe>")
    after = page(sandbox)
    assert set(after.tags) - set(before) <= {"article", "time", "h3", "div"}
    assert "<script>alert(1)</script>" in after.read
    assert "{{ 7*7 }}" in after.read


def test_the_policy_allows_nothing_but_the_pages_own_style(sandbox: Sandbox) -> None:
    answer, text = page_of(f"http://127.0.0.1:{sandbox.slack_port}")
    policy = answer.headers["Content-Security-Policy"]
    nonce = re.search(r"'nonce-([\w-]+)'", policy)
    assert nonce is not None
    assert policy.startswith("default-src 'none'; style-src 'nonce-")
    assert f'<style nonce="{nonce[1]}">' in answer.get_data(as_text=True)
    assert not {"script", "img", "link", "iframe"} & set(text.tags)
    assert 'style="' not in answer.get_data(as_text=True)
    assert page_of(f"http://127.0.0.1:{sandbox.slack_port}")[0].headers["Content-Security-Policy"] != policy


def test_the_page_refreshes_itself(sandbox: Sandbox) -> None:
    answer, _ = page_of(f"http://127.0.0.1:{sandbox.slack_port}")
    assert '<meta http-equiv="refresh" content="2">' in answer.get_data(as_text=True)


def test_a_sandbox_that_is_away_is_said_in_a_sentence() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        answer, text = page_of(f"http://127.0.0.1:{closed.getsockname()[1]}")
    assert answer.status_code == 200
    assert "The sandbox does not answer at the moment" in text.read
    assert "No message yet" not in text.read


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n\r\nnot json", b"HTTP/1.1 500 No\r\n\r\n", b"\xff\r\n"])
def test_a_stranger_in_the_sandboxs_place_breaks_nothing(said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer_once() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(said)

        thread = threading.Thread(target=answer_once)
        thread.start()
        answer, text = page_of(f"http://127.0.0.1:{server.getsockname()[1]}")
        thread.join()
    assert answer.status_code == 200
    assert "The sandbox" in text.read


def test_a_silent_sandbox_holds_the_page_up_for_two_seconds_at_most() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        _, text = page_of(f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert time.monotonic() - began < 4
    assert "does not answer" in text.read
