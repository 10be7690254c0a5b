"""Every address and URL that others collected is refused where it is registered and where something is sent."""

from __future__ import annotations

import socket
from dataclasses import replace
from functools import partial
from typing import Any

from flask.testing import FlaskClient
from pydantic import SecretStr

from assistance.api.app import create_app
from assistance.channels.callback import CallbackChannel, CallbackOptions
from assistance.channels.public_addresses import only_public
from assistance.channels.wire import Addresses
from assistance.domain.outcome import Rejected, RejectionReason, RetryLater
from assistance.intake.submit import Intake
from assistance.intake.webhooks import Webhooks
from assistance.runtime.clock import Deadline
from assistance.storage.database import Database
from assistance.testing.channel_contract import example_view, new_key
from tests.builders import configuration
from tests.memory_door import MemoryDoor
from tests.unit.corpora import corpus

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#: Nobody listens there: what asks it was not refused before.
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


class Names:
    """A resolver for which every name leads to one address, and what was asked of it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.asked: list[str] = []

    def __call__(self, host: str, port: int, _deadline: Deadline) -> Addresses:
        self.asked.append(host)
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        return [(family, socket.SOCK_STREAM, 6, "", (self.address, port))]


def urls() -> list[str]:
    return [case["url"] for case in corpus("ssrf/urls.json") if case["expect"] == "422"]


def blocked() -> list[str]:
    listed = corpus("ssrf/ip-addresses.json")
    found: list[str] = listed["blocked_svix"] + listed["blocked_own_extension"]
    return found


def api(names: Names) -> FlaskClient:
    """The door with the real registration and the real intake, in front of a database that is away."""
    known, database = configuration({"sales": ("people",)}), Database(NOWHERE, deadline_seconds=1)
    intake = Intake(
        database,
        known,
        wake_relay=lambda: None,
        check_after_seconds=300,
        outbox_limit=1000,
        client_open_requests=1000,
    )
    webhooks = Webhooks(database, known, partial(only_public, ask=names))
    door = replace(MemoryDoor().door(), webhooks=webhooks, submit=intake.submit)
    return create_app(door).test_client()


def send(names: Names, url: str) -> Any:
    channel = CallbackChannel(CallbackOptions(), partial(only_public, ask=names))
    destination = {"url": url, "secrets": (SecretStr(SECRET),)}
    return channel.send(channel.render(example_view()), destination, new_key(), Deadline.after(2))


def refused_member(client: FlaskClient, path: str, body: Any) -> str:
    """The member that a 422 names."""
    answer = client.post(path, json=body)
    assert answer.status_code == 422, (body, answer.get_data(as_text=True))
    (error,) = answer.get_json()["errors"]
    assert not any(url in answer.get_data(as_text=True) for url in body.values() if len(url) > 64)
    return str(error["pointer"])


def test_every_url_of_the_corpus_is_refused_at_each_registration_and_at_sending() -> None:
    names = Names("8.8.8.8")
    client = api(names)
    for url in urls():
        assert refused_member(client, "/webhooks", {"url": url}) == "/url"
        asked = {"topic": "sales", "description": "x", "callback_url": url}
        assert refused_member(client, "/assistance", asked) == "/callback_url"
        outcome = send(names, url)
        assert isinstance(outcome, Rejected), url
        assert outcome.reason is RejectionReason.DESTINATION
    assert names.asked == [], "no name was even looked up"
    # The same call with a good URL comes as far as the database, so that it was the URL that was refused.
    assert client.post("/webhooks", json={"url": "https://bot.example.com/"}).status_code == 503
    assert names.asked == ["bot.example.com"]


def test_a_name_that_leads_to_an_address_of_the_corpus_is_refused_at_registration_and_at_sending() -> None:
    url = "https://rebind.example.com/callbacks"
    for address in [*blocked(), "127.0.0.1", "::1", "::ffff:127.0.0.1"]:
        names = Names(address)
        assert refused_member(api(names), "/webhooks", {"url": url}) == "/url", address
        outcome = send(names, url)
        assert isinstance(outcome, RetryLater)
        assert (outcome.code, address in outcome.detail) == ("blocked_address", False)
