"""E-mail against a fake server: refusals and lost connections at every stage, log-in and encryption."""

from __future__ import annotations

import email
from collections.abc import Iterator
from email import policy
from typing import Any

import pytest

from assistance.channels.contract import Channel
from assistance.domain.outcome import (
    Delivered,
    Rejected,
    RetryLater,
    Unknown,
)
from assistance.testing.channel_contract import new_key
from assistance.testing.smtp_server import FakeSmtp
from tests.contract.channel_tools import (
    CONFIGURATION,
    CONTENT,
    DESTINATION,
    assert_ended_as,
    deliver,
    mailer,
)


@pytest.fixture
def provider() -> Iterator[FakeSmtp]:
    with FakeSmtp() as server:
        yield server


@pytest.fixture
def channel(provider: FakeSmtp) -> Channel:
    return mailer(provider.url)


@pytest.mark.parametrize("stage", ["greeting", "ehlo", "mail", "rcpt", "data", "text"])
def test_a_connection_lost_before_the_dot_is_certainly_not_sent(
    channel: Channel, provider: FakeSmtp, stage: str
) -> None:
    provider.says(**{stage: ""})
    assert isinstance(deliver(channel), RetryLater)
    assert provider.mails == []


def test_a_connection_lost_after_the_dot_is_unknown(channel: Channel, provider: FakeSmtp) -> None:
    provider.says(message="")
    assert isinstance(deliver(channel), Unknown)
    assert len(provider.mails) == 1


@pytest.mark.parametrize(
    ("stage", "answer", "expected"),
    [
        ("greeting", "421 later", RetryLater),
        ("greeting", "554 go away", CONFIGURATION),
        ("greeting", "garbage", RetryLater),
        ("mail", "450 later", RetryLater),
        ("mail", "550 not you", CONFIGURATION),
        ("mail", "552 too big", CONTENT),
        ("rcpt", "450 later", RetryLater),
        ("rcpt", "452 full", RetryLater),
        ("rcpt", "421 closing", RetryLater),
        ("rcpt", "550 nobody", DESTINATION),
        ("data", "451 later", RetryLater),
        ("data", "554 no", CONTENT),
        ("message", "452 full", RetryLater),
        ("message", "552 too big", CONTENT),
        ("message", "554 spam", CONTENT),
    ],
)
def test_each_refusal_of_the_server_is_classified(
    channel: Channel, provider: FakeSmtp, stage: str, answer: str, expected: Any
) -> None:
    provider.says(**{stage: answer})
    outcome = deliver(channel)
    assert_ended_as(outcome, expected)
    assert provider.mails == []


def test_each_recipient_that_is_refused_is_in_the_receipt(provider: FakeSmtp) -> None:
    channel = mailer(provider.url, to=["a@example.test", "b@example.test", "c@example.test"])
    provider.says(**{"b@example.test": "550 nobody", "c@example.test": "450 later"})
    outcome = deliver(channel)
    assert isinstance(outcome, Delivered)
    assert outcome.receipt["accepted"] == ["a@example.test"]
    assert outcome.receipt["refused"] == {"b@example.test": "550 nobody", "c@example.test": "450 later"}
    assert provider.mails[0].to == ("a@example.test",)


def test_one_temporary_refusal_among_refusals_is_worth_another_try(provider: FakeSmtp) -> None:
    channel = mailer(provider.url, to=["a@example.test", "b@example.test"])
    provider.says(**{"a@example.test": "550 nobody", "b@example.test": "450 later"})
    assert isinstance(deliver(channel), RetryLater)


def test_the_message_id_stays_the_same_over_all_tries_of_a_series(channel: Channel, provider: FakeSmtp) -> None:
    key = new_key(series=2)
    deliver(channel, key=key)
    deliver(channel, key=key)
    ids = [email.message_from_bytes(mail.wire, policy=policy.compat32)["Message-ID"] for mail in provider.mails]
    assert ids == [f"<{key.delivery_id}.2@example.test>"] * 2


def test_a_wrong_password_is_a_matter_of_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeSmtp(login=("bot", "right")) as provider:
        monkeypatch.setenv("RIGHT", f"smtp://bot:right@127.0.0.1:{provider.port}")
        monkeypatch.setenv("WRONG", f"smtp://bot:canary@127.0.0.1:{provider.port}")
        assert isinstance(deliver(mailer("env:RIGHT")), Delivered)
        outcome = deliver(mailer("env:WRONG"))
        assert isinstance(outcome, Rejected)
        assert outcome.reason is CONFIGURATION
        assert "canary" not in str(outcome)
        provider.login = None
        outcome = deliver(mailer("env:RIGHT"))
        assert isinstance(outcome, Rejected)
        assert outcome.reason is CONFIGURATION


def test_nothing_is_said_to_a_server_that_does_not_offer_the_encryption_asked_for(
    provider: FakeSmtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("URL", f"smtp://bot:canary@127.0.0.1:{provider.port}?starttls=1")
    assert isinstance(deliver(mailer("env:URL")), RetryLater)
    assert [command.split()[0] for command in provider.commands] == ["ehlo"]
