"""RabbitMQ over `amqps`: the server proves who it is, or nothing is sent to it."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from assistance.broker.contract import Confirmation, ConnectionState
from assistance.broker.rabbitmq.probe import probe
from assistance.broker.rabbitmq.publisher import RabbitPublisher
from assistance.broker.rabbitmq.subscriber import RabbitSubscriber
from assistance.domain.errors import BrokerUnavailable
from assistance.testing.tcp_server import TcpServer
from tests.broker_tools import Inbox, message, wait_until
from tests.certificates import Authority
from tests.servers.encrypted import EncryptedRabbit


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an operator makes an authority of his own trusted."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))


@pytest.mark.usefixtures("trusted")
def test_messages_go_out_and_come_in_encrypted(encrypted_rabbit: EncryptedRabbit) -> None:
    url = encrypted_rabbit.tls_url()
    probe(url)
    inbox, ids = Inbox(), [f"m{number}" for number in range(500)]
    subscriber = RabbitSubscriber(url, ["one"])
    with closing(RabbitPublisher(url, ["one"])) as publisher:
        try:
            subscriber.start([inbox.reads("one")])
            wait_until(lambda: publisher.state is subscriber.state is ConnectionState.READY)
            # Together more than fits into one record of TLS.
            answers = publisher.publish([message(each, body=b"x" * 1000) for each in ids], 20)
            assert answers == [Confirmation.CONFIRMED] * len(ids)
            wait_until(lambda: len(inbox.ended) == len(ids))
            assert inbox.counts() == dict.fromkeys(ids, 1)
            assert sorted(encrypted_rabbit.rabbitmqctl("list_connections", "ssl").split()) == ["ssl", "true", "true"]
        finally:
            assert subscriber.stop(10)


def refusals(url: str) -> tuple[str, str]:
    """What a health check and the log of a process say that cannot connect."""
    with pytest.raises(BrokerUnavailable) as caught:
        probe(url)
    with capture_logs() as logs:
        publisher = RabbitPublisher(url, ["one"])
        wait_until(lambda: any(log["event"] == "broker.disconnected" for log in logs))
        assert publisher.state is not ConnectionState.READY
        publisher.close()
    return str(caught.value), next(log["reason"] for log in logs if log["event"] == "broker.disconnected")


def test_a_server_of_an_unknown_authority_is_refused(
    encrypted_rabbit: EncryptedRabbit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(Authority(tmp_path / "another").file))
    sentence, reason = refusals(encrypted_rabbit.tls_url())
    expected = "unable to get local issuer certificate"
    assert sentence == f"The message broker's certificate is refused ({expected}); outbox rows wait."
    assert expected in reason


@pytest.mark.usefixtures("trusted")
def test_a_server_with_a_certificate_for_another_name_is_refused(encrypted_rabbit: EncryptedRabbit) -> None:
    sentence, reason = refusals(encrypted_rabbit.tls_url("localhost"))
    assert sentence == "The message broker's certificate is refused (Hostname mismatch); outbox rows wait."
    assert "certificate is not valid for 'localhost'" in reason


@pytest.mark.usefixtures("trusted")
def test_a_certificate_that_has_expired_is_refused_and_its_successor_is_taken(
    encrypted_rabbit: EncryptedRabbit, authority: Authority
) -> None:
    encrypted_rabbit.show(authority.issue("127.0.0.1", expired=True))
    sentence, reason = refusals(encrypted_rabbit.tls_url())
    assert sentence == "The message broker's certificate is refused (certificate has expired); outbox rows wait."
    assert "certificate has expired" in reason
    with closing(RabbitPublisher(encrypted_rabbit.tls_url(), ["one"])) as publisher:
        encrypted_rabbit.show(authority.issue("127.0.0.1"))
        wait_until(lambda: publisher.state is ConnectionState.READY)


class Listener(TcpServer):
    """Says nothing, and remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = b""

    def serve(self, sock: socket.socket) -> None:
        while piece := sock.recv(65536):
            self.heard += piece


@pytest.mark.usefixtures("trusted")
def test_nothing_is_said_to_a_server_that_does_not_encrypt(encrypted_rabbit: EncryptedRabbit) -> None:
    plain = encrypted_rabbit.tls_url().replace(str(encrypted_rabbit.tls_port), str(encrypted_rabbit.port))
    with pytest.raises(BrokerUnavailable):
        probe(plain)
    with Listener() as listener:
        with pytest.raises(BrokerUnavailable):
            probe(f"amqps://bot:canary@127.0.0.1:{listener.port}/", 0.3)
    assert listener.heard.startswith(b"\x16\x03")
    assert b"AMQP" not in listener.heard
    assert b"canary" not in listener.heard
