"""The gateway as we ship it with TLS: bots that trust its certificate are served, all others notice."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from assistance.client import Client, NotAccepted
from assistance.embedded.ports import free_port
from tests.builders import eventually
from tests.certificates import Authority, Certified
from tests.integration.test_api_over_granian import Server, post, server, statuses, wait_until_it_answers
from tests.servers.nginx import start_gateway

__all__ = ["server"]  # a fixture


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway whose encrypted port shows a certificate for 127.0.0.1."""

    folder: Path
    port: int
    tls_port: int
    process: subprocess.Popen[bytes]


def install(certified: Certified, folder: Path) -> None:
    """Put a certificate where the gateway looks for it at the next start or signal."""
    folder.mkdir(exist_ok=True)
    shutil.copy(certified.certificate, folder / "fullchain.pem")
    shutil.copy(certified.key, folder / "privkey.pem")


@pytest.fixture(scope="module")
def gateway(
    nginx: Path, server: Server, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    install(authority.issue("127.0.0.1"), folder / "tls")
    port, tls_port = free_port(), free_port()
    process = start_gateway(nginx, folder, port=port, api_port=server.port, tls_port=tls_port)
    try:
        wait_until_it_answers(tls_port, process)
        yield Gateway(folder, port, tls_port, process)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


@pytest.fixture
def trusting(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bots of this machine trust the gateway's authority."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))


@pytest.mark.usefixtures("trusting")
def test_a_bot_that_trusts_the_certificate_is_served_encrypted(gateway: Gateway, server: Server) -> None:
    before = server.submitted()
    url = f"https://127.0.0.1:{gateway.tls_port}"
    accepted = Client(url, patience_seconds=10).ask("sales", "A customer wants an offer for 40 seats.")
    assert accepted.status == "accepted"
    assert accepted.url.startswith(url)
    assert server.submitted() == before + 1


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize("path", ["/health", "/metrics", "/sandbox"])
def test_what_tells_of_the_inside_is_not_shown_to_others(gateway: Gateway, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"https://127.0.0.1:{gateway.tls_port}{path}", timeout=10)
    with refused.value as answer:
        assert answer.status == 404
        assert answer.headers["Server"] == "nginx"  # the API was not asked


def test_a_bot_that_does_not_know_the_authority_says_nothing(gateway: Gateway, server: Server) -> None:
    before = server.submitted()
    with pytest.raises(NotAccepted, match="unable to get local issuer certificate"):
        Client(f"https://127.0.0.1:{gateway.tls_port}", patience_seconds=0.1).ask("sales", "Nobody may read this.")
    assert server.submitted() == before


@pytest.mark.usefixtures("trusting")
def test_a_bot_that_means_another_server_says_nothing(gateway: Gateway, server: Server) -> None:
    before = server.submitted()
    with pytest.raises(NotAccepted, match="certificate is not valid for 'localhost'"):
        Client(f"https://localhost:{gateway.tls_port}", patience_seconds=0.1).ask("sales", "Nobody may read this.")
    assert server.submitted() == before


def test_a_call_that_is_not_encrypted_is_refused_at_the_encrypted_port(gateway: Gateway, server: Server) -> None:
    before = server.submitted()
    assert statuses(Server(gateway.tls_port).exchange(post())) == [400]
    assert server.submitted() == before
    assert statuses(Server(gateway.port).exchange(post())) == [202]


def spoken(gateway: Gateway, context: ssl.SSLContext) -> tuple[str, str]:
    """Protocol and cipher that the gateway and a caller agree on. Raises `ssl.SSLError` when there are none."""
    with socket.create_connection(("127.0.0.1", gateway.tls_port), timeout=5) as plain:
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
            name, protocol, _ = connection.cipher() or ("", "", 0)
            return protocol, name


def test_ciphers_without_authentication_or_forward_secrecy_are_refused(gateway: Gateway, authority: Authority) -> None:
    context = ssl.create_default_context(cafile=authority.file)
    assert spoken(gateway, context)[0] == "TLSv1.3"
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert spoken(gateway, context)[1].endswith("GCM-SHA384")
    context.set_ciphers("ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES256-SHA")
    with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
        spoken(gateway, context)


def test_a_caller_who_stalls_in_the_handshake_is_sent_away(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.tls_port), timeout=10) as stalling:
        stalling.sendall(b"\x16\x03\x01\x02\x00\x01")
        with contextlib.suppress(ConnectionResetError):
            assert stalling.recv(100) == b""


def test_a_renewed_certificate_is_shown_after_a_signal(gateway: Gateway, authority: Authority) -> None:
    renewed = authority.issue("127.0.0.1")
    install(renewed, gateway.folder / "tls")
    gateway.process.send_signal(signal.SIGHUP)
    address = ("127.0.0.1", gateway.tls_port)
    eventually(lambda: ssl.get_server_certificate(address) == renewed.certificate.read_text(encoding="ascii"))
