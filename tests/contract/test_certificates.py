"""Whoever we speak with encrypted proves who he is, on every link to the outside, before anything is said to him."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from joserfc.jwk import ECKey, Key

from assistance.channels import callback, slack, webhook, wire
from assistance.channels.contract import Channel
from assistance.clients.key_sets import KeySet
from assistance.domain.errors import IssuerUnavailable
from assistance.domain.outcome import Delivered, RetryLater
from assistance.runtime.clock import Deadline
from assistance.testing.http_server import FakeHttpServer, Reply
from assistance.testing.slack_server import FakeSlack
from assistance.testing.smtp_server import FakeSmtp
from assistance.testing.tcp_server import TcpServer
from tests.certificates import Authority, Certified
from tests.contract.channel_tools import SIGNING_SECRET, TOKEN, built, deliver, mailer

LINKS = ["slack", "webhook", "callback", "smtps", "starttls"]
Fake = FakeHttpServer | FakeSmtp


class Encrypted(TcpServer):
    """Mixed into a fake, which then shows `certified` and speaks TLS from the first byte."""

    certified: Certified

    def serve(self, sock: socket.socket) -> None:
        with self.certified.server_side().wrap_socket(sock, server_side=True) as secured:
            super().serve(secured)


class EncryptedHook(Encrypted, FakeHttpServer):
    pass


class EncryptedSlack(Encrypted, FakeSlack):
    pass


def fake_for(link: str, certified: Certified) -> Fake:
    if link in ("smtps", "starttls"):
        return FakeSmtp(tls=certified.server_side(), implicit_tls=link == "smtps", login=("bot", "canary"))
    fake = EncryptedSlack() if link == "slack" else EncryptedHook()
    fake.certified = certified
    return fake


@pytest.fixture
def channel_to(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, int], Channel]:
    """Makes the channel of a link to a host and port."""

    def make(link: str, host: str, port: int) -> Channel:
        monkeypatch.setenv("FAKE_TOKEN", TOKEN)
        monkeypatch.setenv("FAKE_SECRET", SIGNING_SECRET)
        hook = {"url": f"https://{host}:{port}/hook", "secret": "env:FAKE_SECRET"}
        if link == "slack":
            api_url = f"https://{host}:{port}/api/"
            return built(slack.CHANNEL_TYPE, token="env:FAKE_TOKEN", channel="C024BE91L", api_url=api_url)
        if link == "webhook":
            return built(webhook.CHANNEL_TYPE, **hook)
        if link == "callback":
            return built(callback.CHANNEL_TYPE, webhooks={"bot": hook})
        scheme, option = ("smtps", "") if link == "smtps" else ("smtp", "?starttls=1")
        monkeypatch.setenv("FAKE_SERVER", f"{scheme}://bot:canary@{host}:{port}{option}")
        return mailer("env:FAKE_SERVER")

    return make


@pytest.fixture(autouse=True)
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As an operator makes an authority of his own trusted; it is read once in a process."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    wire.tls_context.cache_clear()
    yield
    wire.tls_context.cache_clear()


@pytest.mark.parametrize("link", LINKS)
def test_a_provider_that_proves_its_name_is_spoken_with(
    authority: Authority, channel_to: Callable[[str, str, int], Channel], link: str
) -> None:
    with fake_for(link, authority.issue("127.0.0.1")) as provider:
        outcome = deliver(channel_to(link, "127.0.0.1", provider.port))
    assert isinstance(outcome, Delivered), outcome
    assert len(provider.visible) == 1


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("of an unknown authority", "unable to get local issuer certificate"),
        ("for another name", "certificate is not valid for"),
        ("that has expired", "certificate has expired"),
    ],
    ids=["of an unknown authority", "for another name", "that has expired"],
)
def test_nothing_is_said_to_a_provider_with_a_certificate(
    authority: Authority,
    channel_to: Callable[[str, str, int], Channel],
    tmp_path: Path,
    fault: str,
    told: str,
    link: str,
) -> None:
    signer = Authority(tmp_path / "unknown") if fault == "of an unknown authority" else authority
    name = "localhost" if fault == "for another name" else "127.0.0.1"
    with fake_for(link, signer.issue(name, expired=fault == "that has expired")) as provider:
        outcome = deliver(channel_to(link, "127.0.0.1", provider.port))
    assert isinstance(outcome, RetryLater), outcome
    assert outcome.code == "tls_failed"
    assert told in outcome.detail
    if isinstance(provider, FakeSmtp):
        assert [command.split()[0].lower() for command in provider.commands] in ([], ["ehlo", "starttls"])
    else:
        assert provider.received == []


def keys_from(certified: Certified) -> Key | None:
    """The key for tokens that an issuer with this certificate publishes. Raises `IssuerUnavailable`."""
    published = {"keys": [ECKey.generate_key("P-256", {"kid": "a"}).as_dict(private=False)]}
    with EncryptedHook() as issuer:
        issuer.certified = certified
        issuer.script.upcoming.append(Reply(body=json.dumps(published).encode()))
        return KeySet(f"https://127.0.0.1:{issuer.port}/keys").find("ES256", "a", Deadline.after(5))


def test_the_keys_of_an_issuer_are_believed_only_if_it_proves_its_name(authority: Authority, tmp_path: Path) -> None:
    assert keys_from(authority.issue("127.0.0.1")) is not None
    for certified in (authority.issue("localhost"), Authority(tmp_path / "unknown").issue("127.0.0.1")):
        with pytest.raises(IssuerUnavailable):
            keys_from(certified)
