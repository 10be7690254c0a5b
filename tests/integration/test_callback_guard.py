"""What a bot's webhook cannot do: reach into our network, speak for another client, or be read through us."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from assistance.channels.http import parse_endpoint
from assistance.channels.public_addresses import only_public
from assistance.channels.wire import resolve
from assistance.configuration import WebhookSettings
from assistance.deliveries import webhooks
from assistance.domain.errors import TooManyWebhooks, UrlRefused
from assistance.intake import webhooks as intake_webhooks
from assistance.intake.webhooks import Webhooks
from assistance.runtime.clock import Deadline
from assistance.testing.behaviour import Trouble
from assistance.testing.http_server import FakeHttpServer, Reply
from tests.builders import World
from tests.unit.test_blocked_everywhere import Names

URL = "https://rebind.example.com/callbacks"


@pytest.fixture
def canary() -> Iterator[FakeHttpServer]:
    with FakeHttpServer() as server:
        yield server


def tried(desk: Webhooks, name: Any, seconds: float = 3) -> dict[str, Any]:
    """What the client is told of a test."""
    result = desk.test("mine", name, Deadline.after(seconds))
    assert result is not None
    return dict(result)


def test_a_name_that_turns_to_this_machine_after_its_registration_is_not_called_by_the_test(
    world: World, canary: FakeHttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names("8.8.8.8")
    desk = Webhooks(world.database, world.configuration, partial(only_public, ask=names))
    name = desk.register("mine", URL, None, Deadline.after(3))["id"]
    endpoint = parse_endpoint(f"http://rebind.example.com:{canary.port}/")
    monkeypatch.setattr(intake_webhooks, "parse_public_url", lambda _url: endpoint)
    names.address = "127.0.0.1"
    told = tried(desk, name)
    assert (told["delivered"], told["http_status"]) == (False, None)
    assert "127.0.0.1" not in told["detail"]
    assert canary.connections == 0
    # Without the guard it would have arrived: the canary is where the name leads.
    unguarded = Webhooks(world.database, world.configuration, names)
    assert tried(unguarded, name)["delivered"]
    assert canary.connections == 1


@pytest.mark.parametrize("trouble", [Trouble.SILENT, Trouble.DRIP], ids=lambda trouble: trouble.name)
def test_a_slow_server_costs_a_test_no_more_than_its_time(
    world: World, canary: FakeHttpServer, monkeypatch: pytest.MonkeyPatch, trouble: Trouble
) -> None:
    desk = unguarded(world, canary, monkeypatch)
    canary.provoke(trouble)
    began = time.monotonic()
    tried(desk, desk.list("mine", Deadline.after(3))[0]["id"], seconds=1)
    assert time.monotonic() - began < 3


def test_nothing_of_a_servers_answer_is_handed_on_and_no_redirect_is_followed(
    world: World, canary: FakeHttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = unguarded(world, canary, monkeypatch)
    name = desk.list("mine", Deadline.after(3))[0]["id"]
    canary.script.upcoming += [
        Reply(http_status=302, headers={"Location": f"{canary.url}internal"}, body=b"confidential"),
        Reply(http_status=401, headers={"WWW-Authenticate": "Basic realm=confidential"}),
        Reply(http_status=200, body=b"confidential" * 100_000),
    ]
    told = [tried(desk, name) for _ in range(3)]
    assert [(each["delivered"], each["http_status"]) for each in told] == [(False, 302), (False, 401), (True, 200)]
    assert "confidential" not in str(told)
    assert len(canary.received) == 3
    assert not any("authorization" in received.headers for received in canary.received)


def unguarded(world: World, canary: FakeHttpServer, monkeypatch: pytest.MonkeyPatch) -> Webhooks:
    """The client's webhook at a server that is allowed, as one on the open internet would be."""
    endpoint = parse_endpoint(f"http://127.0.0.1:{canary.port}/")
    monkeypatch.setattr(intake_webhooks, "parse_public_url", lambda _url: endpoint)
    desk = Webhooks(world.database, world.configuration, resolve)
    desk.register("mine", URL, None, Deadline.after(3))
    return desk


def test_the_webhook_of_another_client_cannot_be_named_in_any_way(
    worlds: Callable[..., World], canary: FakeHttpServer
) -> None:
    world = worlds()
    theirs = WebhookSettings(name="theirs", url=f"{canary.url}theirs", client="theirs")
    configuration = replace(world.configuration, webhooks={"theirs": theirs})
    desk = Webhooks(world.database, configuration)
    assert desk.register("theirs", theirs.url, None, Deadline.after(3))["url"] == theirs.url
    with pytest.raises(UrlRefused) as known:
        desk.register("mine", theirs.url, None, Deadline.after(3))
    with pytest.raises(UrlRefused) as unknown:
        desk.register("mine", f"{canary.url}nobodys", None, Deadline.after(3))
    assert str(known.value) == str(unknown.value)
    assert canary.connections == 0


def test_a_client_that_registers_at_many_places_at_once_gets_no_more_than_it_may_have(world: World) -> None:
    def register(number: int) -> bool:
        try:
            url = f"https://bot.example.com/{number}"
            world.database.run(lambda connection: webhooks.register(connection, "mine", url, None))
        except TooManyWebhooks:
            return False
        return True

    with ThreadPoolExecutor(30) as pool:
        assert sum(pool.map(register, range(60))) == webhooks.MOST_WEBHOOKS
