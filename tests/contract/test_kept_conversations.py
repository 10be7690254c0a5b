"""One SMTP conversation for several mails, as long as the server goes along."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from assistance.channels import kept
from assistance.domain.outcome import Delivered
from assistance.testing.smtp_server import FakeSmtp
from tests.builders import eventually
from tests.certificates import Authority
from tests.contract.channel_tools import deliver, mailer


@pytest.fixture
def mail_server() -> Iterator[FakeSmtp]:
    with FakeSmtp() as server:
        server.keeps = True
        yield server


def test_several_mails_go_over_one_conversation(mail_server: FakeSmtp) -> None:
    channel = mailer(mail_server.url)
    assert [type(deliver(channel)) for _ in range(3)] == [Delivered] * 3
    assert (len(mail_server.mails), mail_server.connections) == (3, 1)
    assert [command.split()[0] for command in mail_server.commands].count("ehlo") == 1


def test_mails_after_encryption_and_log_in_go_over_one_conversation(
    trusted: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeSmtp(tls=trusted.issue("127.0.0.1").server_side(), login=("bot", "right")) as server:
        server.keeps = True
        monkeypatch.setenv("URL", f"smtp://bot:right@127.0.0.1:{server.port}?starttls=1")
        channel = mailer("env:URL")
        assert [type(deliver(channel)) for _ in range(2)] == [Delivered] * 2
        assert (len(server.mails), server.connections) == (2, 1)
        del channel


@pytest.mark.parametrize("answer", ["421 enough for today", ""], ids=["421", "closes"])
def test_a_mail_server_that_wants_no_second_mail_costs_no_attempt(mail_server: FakeSmtp, answer: str) -> None:
    mail_server.says(reset=answer)
    channel = mailer(mail_server.url)
    assert [type(deliver(channel)) for _ in range(2)] == [Delivered] * 2
    assert (len(mail_server.mails), mail_server.connections) == (2, 2)


@pytest.mark.parametrize("answer", ["450 busy", "550 nobody"], ids=["for now", "for good"])
def test_a_refused_mail_ends_its_conversation(mail_server: FakeSmtp, answer: str) -> None:
    mail_server.says(message=answer)
    channel = mailer(mail_server.url)
    assert not isinstance(deliver(channel), Delivered)
    assert isinstance(deliver(channel), Delivered)
    assert (len(mail_server.mails), mail_server.connections) == (1, 2)


def test_a_conversation_that_nobody_needs_ends_with_a_good_bye(
    mail_server: FakeSmtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "_IDLE_SECONDS", 0.05)
    channel = mailer(mail_server.url)
    deliver(channel)
    eventually(lambda: mail_server.commands[-1].lower() == "quit")
