"""A request as a mail."""

from __future__ import annotations

import email
from email import policy
from email.message import Message
from typing import Any

import pytest
from pydantic import ValidationError

from assistance.channels.contract import DeliveryKey, Rendered
from assistance.channels.email import EmailOptions
from assistance.channels.email_message import UnsafeHeaders, compose, parse_address, render
from assistance.channels.smtp_address import parse_server
from assistance.channels.text import clean, one_line
from assistance.domain.request import Priority
from assistance.testing.channel_contract import example_view, new_key
from tests.unit.corpora import corpus, naughty_strings

SENDER = parse_address('"Assistance, Ltd." <assistance@example.test>')
_HEADERS = {
    *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"),
    *("MIME-Version", "Content-Type", "Content-Transfer-Encoding"),
}


def mail(view: Any, key: DeliveryKey | None = None) -> tuple[bytes, Message[Any, Any]]:
    wire = compose(render(view), SENDER, ["help@example.test"], key or new_key())
    return wire, email.message_from_bytes(wire, policy=policy.default)


def body(message: Message[Any, Any]) -> str:
    payload = message.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode().replace("\r\n", "\n")


def test_a_mail_says_what_is_asked_by_whom_and_since_when() -> None:
    view = example_view(
        priority=Priority.URGENT, customer={"name": "Ada", "email": "ada@example.test"}, late_seconds=720
    )
    key = new_key(series=4)
    _, message = mail(view, key)
    assert message["Subject"] == "[A-7F3K9Q] sales: My invoice is wrong."
    assert message["From"] == '"Assistance, Ltd." <assistance@example.test>'
    assert message["Reply-To"] == "ada@example.test"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"] == f"<{key.delivery_id}.4@example.test>"
    assert message.get_content_type() == "text/plain"
    assert body(message).split("\n\n") == [
        "sales · A-7F3K9Q",
        "From: Ada, ada@example.test\nPriority: urgent\nWaiting since 14:02 UTC (12 min late)",
        "My invoice is wrong.",
    ]


@pytest.mark.parametrize(
    "written", ["", "ada", "ada@", "a@b@c.test", "x@example.test\r\nBcc: y@evil.test", "a@e.test, b@e.test", 7, None]
)
def test_an_address_that_is_none_is_not_answered_to(written: object) -> None:
    _, message = mail(example_view(customer={"email": written}))
    assert set(message.keys()) == _HEADERS


@pytest.mark.parametrize("where", ["topic", "description", "customer"])
def test_no_text_becomes_a_header(where: str) -> None:
    cases = [case["input"] for case in corpus("injection/email_headers.json")] + naughty_strings()
    for text in cases:
        members: dict[str, Any] = {"customer": {"name": text, "email": text}} if where == "customer" else {where: text}
        wire, message = mail(example_view(**members))
        assert set(message.keys()) - {"Reply-To"} == _HEADERS
        assert len(message.keys()) == len(set(message.keys()))
        head = wire.partition(b"\r\n\r\n")[0]
        assert b"bcc" not in [line.partition(b":")[0].lower() for line in head.split(b"\r\n")]


def test_subjects_arrive_as_they_were_written() -> None:
    for case in corpus("injection/email_headers.json"):
        wire, _ = mail(example_view(topic=case["input"][:64]))
        raw = email.message_from_bytes(wire, policy=policy.compat32)["Subject"]
        shown = str(email.header.make_header(email.header.decode_header(raw)))
        assert shown == f"[A-7F3K9Q] {one_line(case['input'][:64])}: My invoice is wrong."


def test_bodies_arrive_as_they_were_written_with_crlf_line_ends_only() -> None:
    smuggling = [case["body"] for case in corpus("injection/smtp_data.json")]
    for text in smuggling + naughty_strings():
        wire, message = mail(example_view(text))
        assert b"\n" not in wire.replace(b"\r\n", b"")
        assert b"\r" not in wire.replace(b"\r\n", b"")
        expected = clean(text)
        assert body(message) == "sales · A-7F3K9Q" + (f"\n\n{expected}" if expected else "")


def test_a_message_whose_headers_changed_is_not_sent() -> None:
    forged = Rendered(text="x", content={"subject": "x", "body": "x", "reply_to": "a@e.test\r\nBcc: b@evil.test"})
    with pytest.raises(UnsafeHeaders):
        compose(forged, SENDER, ["help@example.test"], new_key())


def test_no_address_of_the_corpus_is_more_than_one_recipient() -> None:
    accepted = 0
    for case in corpus("isemail/tests.json"):
        _, message = mail(example_view(customer={"email": case["address"]}))
        reply_to = message["Reply-To"]
        if reply_to is not None:
            accepted += 1
            assert len(reply_to.addresses) == 1
            assert case["category"] not in ("ISEMAIL_ERR", "ISEMAIL_CFWS"), case["address"]
    assert accepted > 5


@pytest.mark.parametrize(
    "url",
    [
        "http://mail.example.test",
        "smtp://",
        "smtp://mail.example.test?tls=1",
        "smtp://mail.example.test?starttls=2",
        "smtps://mail.example.test?starttls=1",
        "smtp://bot:pass@mail.example.test",
        "smtp://bot@mail.example.test?starttls=1",
        "smtp://bot:p%C3%A4ss@mail.example.test?starttls=1",
        "smtp://mail.example.test/path",
        "smtp://mail.example.test:99999",
    ],
)
def test_a_server_url_that_cannot_be_right_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_server(url)
    assert "bot@" not in str(refused.value)
    assert "bot:" not in str(refused.value)
    assert "p%C3" not in str(refused.value)


def test_a_server_url_says_how_mail_is_handed_in() -> None:
    server = parse_server("smtp://bot:p%40ss@mail.example.test?starttls=1")
    assert (server.host, server.port, server.user, server.password) == ("mail.example.test", 587, "bot", "p@ss")
    assert server.starttls
    assert "p@ss" not in repr(server)
    assert parse_server("smtps://mail.example.test").port == 465
    assert not parse_server("smtp://bot:pass@127.0.0.1:2525").starttls


@pytest.mark.parametrize(
    ("member", "value"),
    [("to", []), ("to", ["nobody"]), ("to", ["A <a@example.test>"]), ("from", "nobody"), ("to", "a@example.test")],
)
def test_addresses_that_are_none_are_refused(member: str, value: object) -> None:
    good = {"url": "smtp://127.0.0.1:25", "from": "a@example.test", "to": ["b@example.test"]}
    assert EmailOptions.model_validate(good).to == ["b@example.test"]
    with pytest.raises(ValidationError):
        EmailOptions.model_validate({**good, member: value})
