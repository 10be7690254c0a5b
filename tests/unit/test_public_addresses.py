"""Callbacks go to the open internet only: no form of URL, address or resolver leads anywhere else."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from pydantic import SecretStr

from assistance.channels import http
from assistance.channels.callback import CallbackChannel, CallbackOptions
from assistance.channels.public_addresses import LONGEST_URL, is_public, only_public, parse_public_url
from assistance.channels.wire import Addresses, NotConnected
from assistance.domain.outcome import RetryLater
from assistance.runtime.clock import Deadline
from assistance.testing.channel_contract import example_view, new_key
from assistance.testing.http_server import FakeHttpServer
from tests.unit.corpora import corpus

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Names:
    """A resolver that answers what the test wrote down, one answer after the other; the last one counts for ever."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, _host: str, port: int, _deadline: Deadline) -> Addresses:
        self.asked += 1
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in found
        ]


@pytest.fixture
def canary() -> Iterator[FakeHttpServer]:
    with FakeHttpServer() as server:
        yield server


def send(names: Names, url: str = "https://rebind.example.com/") -> Any:
    channel = CallbackChannel(CallbackOptions(), partial(only_public, ask=names))
    destination = {"url": url, "secrets": (SecretStr(SECRET),)}
    return channel.send(channel.render(example_view()), destination, new_key(), Deadline.after(2))


def test_every_url_of_the_corpus_is_refused_by_its_form_alone() -> None:
    refused = [case for case in corpus("ssrf/urls.json") if case["expect"] == "422"]
    assert len(refused) >= 40
    for case in refused:
        with pytest.raises(ValueError, match=r"^(has|may|is|names) "):
            parse_public_url(case["url"])


@pytest.mark.parametrize(
    "url",
    [
        "https://bot.example.com",
        "https://bot.example.com:443/callbacks?bot=1",
        "https://xn--bcher-kva.example/a%20b",
        "HTTPS://Bot.Example.COM/",
        "https://a_b.example.com/@me",
    ],
)
def test_an_ordinary_https_url_is_taken(url: str) -> None:
    assert parse_public_url(url).port == 443


def test_a_url_is_taken_up_to_its_longest_form() -> None:
    longest = "https://bot.example.com/".ljust(LONGEST_URL, "a")
    parse_public_url(longest)
    with pytest.raises(ValueError, match="2,048"):
        parse_public_url(longest + "a")


def test_every_address_of_the_corpus_is_judged_as_listed() -> None:
    listed = corpus("ssrf/ip-addresses.json")
    blocked = listed["blocked_svix"] + listed["blocked_own_extension"]
    assert len(blocked) >= 48
    assert [address for address in blocked if is_public(address)] == []
    assert all(is_public(address) for address in listed["allowed_svix"])
    assert not is_public("no address")


@pytest.mark.parametrize(
    "found", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["2001:4860:4860::8888", "::1"], ["::ffff:127.0.0.1"], []]
)
def test_one_address_that_is_not_public_blocks_the_name(found: list[str]) -> None:
    with pytest.raises(NotConnected) as blocked:
        only_public("multi.example.com", 443, Deadline.after(1), ask=Names(found))
    assert blocked.value.code == "blocked_address"
    assert not any(address in blocked.value.detail for address in found)


def test_a_name_that_turns_to_this_machine_after_it_was_checked_reaches_nobody(
    canary: FakeHttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = http.parse_endpoint(f"https://rebind.example.com:{canary.port}/")
    monkeypatch.setattr("assistance.channels.callback.parse_public_url", lambda _url: endpoint)
    names = Names(["8.8.8.8"], ["127.0.0.1"])
    assert only_public(endpoint.host, endpoint.port, Deadline.after(1), ask=names)  # as when it was registered
    for _ in range(3):
        outcome = send(names)
        assert isinstance(outcome, RetryLater)
        assert outcome.code == "blocked_address"
    assert canary.connections == 0


def test_the_connection_goes_to_the_address_that_was_checked_and_names_the_host(canary: FakeHttpServer) -> None:
    endpoint = http.parse_endpoint(f"http://bot.example.com:{canary.port}/hook")
    names = Names(["127.0.0.1"], ["192.0.2.1"])
    http.post(endpoint, b"{}", {}, Deadline.after(5), find=names)
    assert names.asked == 1, "a name that is asked for twice can answer twice"
    assert canary.received[0].headers["host"] == f"bot.example.com:{canary.port}"


def test_tls_is_proved_for_the_name_and_not_for_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def remember(_sock: Any, host: str) -> Any:
        told.append(host)
        raise NotConnected("tls_failed", host)

    monkeypatch.setattr(http, "secure", remember)
    with FakeHttpServer() as server:
        endpoint = http.parse_endpoint(f"https://bot.example.com:{server.port}/")
        with pytest.raises(NotConnected):
            http.post(endpoint, b"{}", {}, Deadline.after(5), find=Names(["127.0.0.1"]))
    assert told == ["bot.example.com"]


def test_certificates_are_verified() -> None:
    from assistance.channels.wire import tls_context

    assert tls_context().verify_mode is ssl.CERT_REQUIRED
    assert tls_context().check_hostname
    assert tls_context().minimum_version >= ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("proxy", ["https_proxy", "HTTPS_PROXY", "all_proxy"])
def test_no_proxy_of_the_environment_is_used(
    canary: FakeHttpServer, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv(proxy, canary.url)
    assert send(Names(["10.0.0.1"])).code == "blocked_address"
    assert canary.connections == 0


def test_a_long_answer_is_read_only_in_part(canary: FakeHttpServer) -> None:
    from assistance.testing.http_server import Reply

    canary.script.upcoming.append(Reply(body=b"x" * 300_000))
    answer = http.post(
        http.parse_endpoint(canary.url), b"{}", {}, Deadline.after(5), find=Names(["127.0.0.1"]), most_body_bytes=1000
    )
    assert (len(answer.body), answer.is_whole) == (1000, False)
