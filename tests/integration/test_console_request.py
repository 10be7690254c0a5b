"""The page of one request: everything that happened in one timeline, its messages, and what can be done."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from html import unescape
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import event

from assistance.channels.registry import find_type
from assistance.domain.answers import IdempotencyKey
from assistance.domain.outcome import Delivered, RetryLater
from assistance.domain.request import Author
from assistance.domain.route import Route, Step
from assistance.embedded.databases import create_database, drop_database
from tests.builders import World
from tests.console_tools import Browser, signed_in, text_of
from tests.integration.request_pages import REFUSED, in_order, letter_of, page, text_on
from tests.servers import Server, SharedServers
from tests.servers.shared import database_url

NAUGHTY = '<script>alert(1)</script> <!channel> @here \u202egnp.exe\u2066 " onload="x ' + "w" * 4_000


TOPICS: Mapping[str, Sequence[str] | Route] = {
    "help": ("people",),
    "quiet": ("people",),
    "sales": Route(to=("people",), fallback=(Step(to=("spare",), after_seconds=600),)),
}


@pytest.fixture(scope="module")
def shared_world(servers: SharedServers, postgres_server: Server, unique_name: Callable[[], str]) -> Iterator[World]:
    """One database for all: every test looks at a request of its own."""
    name = unique_name()
    create_database(postgres_server.url, name, template=servers.template(postgres_server))
    opened = World(database_url(postgres_server.url, name), TOPICS)
    yield opened
    opened.close()
    drop_database(postgres_server.url, name)


@pytest.fixture(scope="module")
def operator(shared_world: World) -> Browser:
    return signed_in(shared_world)


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    """The shared world, with the channels that it began with."""
    channels = shared_world.configuration.channels
    yield shared_world
    object.__setattr__(shared_world.configuration, "channels", channels)


def test_a_request_is_found_by_its_ref_in_any_case_and_by_its_id(world: World, operator: Browser) -> None:
    request = world.submit()
    for name in (request.ref, request.ref.lower(), str(request.id)):
        answer = operator.get(f"/console/requests/{name}")
        assert answer.status_code == 200
        assert request.ref in text_of(answer)


def test_a_request_that_is_not_there_is_a_404_that_says_what_to_do(operator: Browser) -> None:
    answer = operator.get(f"/console/requests/{uuid4()}")
    assert answer.status_code == 404
    assert "look for it in the list" in text_of(answer)


def test_a_name_that_is_neither_ref_nor_id_is_refused_by_name(operator: Browser) -> None:
    for name in ("nonsense", "A-12345", "A-1234567", "%00", "0" * 500, "\u0660" * 31):
        answer = operator.get(f"/console/requests/{name}")
        assert answer.status_code == 400, (name, text_of(answer))
        assert "is neither a ref, such as A-7F3K9Q, nor an id." in text_of(answer)


def test_the_timeline_tells_acceptance_tries_and_death_in_the_order_of_time(world: World, operator: Browser) -> None:
    request = world.submit(key=IdempotencyKey(value="key-17", fingerprint=b"x" * 32))
    world.deliver(request.id, RetryLater(code="http_503", detail="Slack is away."))
    world.deliver(request.id, REFUSED)
    text = text_on(operator, request)
    assert in_order(
        text,
        "Timeline",
        "Accepted and on disk",
        "Idempotency-Key key-17",
        "Try 1 on people",
        "http_503: Slack is away.",
        "Try 2 on people",
        "not_in_channel: The bot is not in the channel.",
        f"{letter_of(world, request)} on people: rejected",
        "Nobody can be told any more",
    ), text
    assert "tester" in text


def test_the_timeline_tells_what_waits_and_when(world: World, operator: Browser) -> None:
    request = world.submit(topic="sales")
    world.deliver(request.id, RetryLater(code="busy", detail="Later.", retry_after_seconds=3_000))
    text = text_on(operator, request)
    assert in_order(text, "Try 1 on people", "The next step of the fallback begins", "Try 2 on people is due"), text
    assert 'class="hint ahead"' in page(operator, request)


def test_the_timeline_tells_what_was_added_and_the_receipt(world: World, operator: Browser) -> None:
    request = world.submit()
    world.deliver(request.id, Delivered(receipt={"ts": "17.4"}))
    world.add(request.id, "Is <anybody> there?", Author.CUSTOMER)
    text = text_on(operator, request)
    assert in_order(text, "receipt ts: 17.4", "People were told", "The customer adds", "Is <anybody> there?"), text


def test_the_words_of_a_customer_are_text_wherever_they_stand(world: World, operator: Browser) -> None:
    request = world.submit(
        description=NAUGHTY[:4_000],
        title=NAUGHTY[:200],
        customer={"name": NAUGHTY[:200], "id": "c-1"},
        metadata={"<b>": NAUGHTY[:512]},
        conversation={"id": NAUGHTY[:200]},
        transcript=[{"from": NAUGHTY[:64], "text": NAUGHTY[:4_000]}],
        bot={"reason": NAUGHTY[:500]},
        attachments=[{"url": "https://example.test/?<img src=x>", "name": NAUGHTY[:100]}],
    )
    world.deliver(request.id, RetryLater(code="<i>", detail=NAUGHTY[:400]))
    world.add(request.id, NAUGHTY[:4_000])
    html = page(operator, request)
    for alive in ("<script>alert", "<img src", "<b>:", "<i>", "<!channel>", ' onload="x'):
        assert alive not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_the_message_is_shown_as_it_is_sent_without_any_secret(world: World, operator: Browser) -> None:
    request = world.submit(description="The printer <burns>.", title="Fire")
    for name in ("slack", "email", "webhook"):
        be_of_type(world, name, {"token": "env:MISSING"})
        text = text_on(operator, request)
        assert "The message as it will be sent" in text
        assert text.count("The printer <burns>.") >= 2, name
    be_of_type(world, "email", {})
    assert f"Subject [{request.ref}] help: Fire" in text_on(operator, request)


def be_of_type(world: World, name: str, options: Mapping[str, str]) -> None:
    """Let all channels of the world be of a real type, with options that nothing can be built from."""
    found = find_type(name)
    assert found is not None
    channels = {
        channel: replace(settings, type=found, options=options)
        for channel, settings in world.configuration.channels.items()
    }
    object.__setattr__(world.configuration, "channels", channels)


def test_a_message_of_the_fallback_says_whom_it_stepped_in_for_even_after_it_won(
    world: World, operator: Browser
) -> None:
    be_of_type(world, "slack", {})
    request = world.submit(topic="sales")
    world.execute("UPDATE timers SET due_at = now()")
    world.fire_timers()
    world.deliver(request.id, channel="spare")
    text = text_on(operator, request)
    assert "Sent here because people has not confirmed it since" in text
    assert in_order(text, "Step 1 of the fallback begins on spare: nobody confirmed in time", "People were told")


def test_a_channel_that_left_the_file_still_has_its_page(world: World, operator: Browser) -> None:
    request = world.submit()
    object.__setattr__(world.configuration, "channels", {})
    assert "Its channel left the configuration file" in text_on(operator, request)


def test_the_command_asks_for_the_same_and_holds_no_key(world: World, operator: Browser) -> None:
    said: dict[str, Any] = {
        "description": "It's <broken> $HOME `id` \\ \n“now”",
        "title": "'quoted'",
        "customer": {"id": "c-1", "name": "Zoë"},
        "conversation": {"id": "t-1"},
        "transcript": [{"from": "bot", "text": "Hello."}],
        "metadata": {"a": True},
    }
    request = world.submit(
        **said,
        key=IdempotencyKey(value="secret-key", fingerprint=b"x" * 32),
        callback_url="https://example.test/?token=t",
    )
    html = page(operator, request)
    command = unescape(html.split('<pre id="curl" tabindex="0">')[1].split("</pre>")[0])
    words = shlex.split(command.replace("\\\n", ""))
    body = json.loads(words[words.index("-d") + 1])
    assert body == {
        "topic": "help",
        **{name: said[name] for name in ("description", "title", "customer", "metadata")},
        "conversation": {"id": "t-1", "transcript": said["transcript"]},
    }
    assert words[:3] == ["curl", "-i", "http://localhost/assistance"]
    assert command.isascii()
    assert "secret-key" not in command
    assert "token=t" not in command


def test_newer_and_older_lead_through_the_list_that_the_filter_gives(world: World, operator: Browser) -> None:
    first, other, last = world.submit(topic="quiet"), world.submit(), world.submit(topic="quiet")
    older = operator.get(f"/console/requests/{last.ref}/older?topic=quiet")
    assert older.location == f"/console/requests/{first.ref}?topic=quiet"
    newer = operator.get(f"/console/requests/{first.ref}/newer")
    assert newer.location == f"/console/requests/{other.ref}"
    end = operator.get(f"/console/requests/{first.ref}/older?topic=quiet")
    assert end.location == f"/console/requests/{first.ref}?topic=quiet"
    assert "No older request matches." in text_of(operator.get(end.location))


def test_a_wrong_filter_in_the_address_of_a_request_is_named(world: World, operator: Browser) -> None:
    request = world.submit()
    answer = operator.get(f"/console/requests/{request.ref}?since=yesterday&topic=help")
    assert answer.status_code == 400
    assert "The filter since" in text_of(answer)
    assert f"/console/requests/{request.ref}?topic=help" in answer.get_data(as_text=True)


def test_an_open_page_of_a_request_costs_two_statements_and_nothing_is_sent_when_nothing_happened(
    world: World, operator: Browser
) -> None:
    request = world.submit()
    here = f"/console/requests/{request.ref}"
    first = operator.get(here, headers={"X-Refresh": "1"})
    statements: list[str] = []

    def count(_c: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    engine = world.database._engine
    event.listen(engine, "before_cursor_execute", count)
    again = operator.get(here, headers={"X-Refresh": "1", "If-None-Match": first.headers["ETag"]})
    event.remove(engine, "before_cursor_execute", count)
    assert again.status_code == 304
    assert len(statements) <= 1  # beside the one that finds the session
    world.deliver(request.id)
    assert operator.get(here, headers={"X-Refresh": "1", "If-None-Match": first.headers["ETag"]}).status_code == 200


def test_callbacks_are_told_beside_the_deliveries_to_people(world: World, operator: Browser) -> None:
    request = world.submit(callback_url="https://bots.example.test/hook?token=t")
    world.deliver(request.id)
    text = text_on(operator, request)
    assert "the bot, as a callback" in text
