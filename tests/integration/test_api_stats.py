"""`GET /stats` tells what the history says, to those who may see everybody's requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from assistance import wsgi
from assistance.api.answers import instant
from assistance.clients import store
from assistance.domain.caller import Scope
from assistance.domain.outcome import Rejected, RejectionReason
from assistance.settings import load_settings
from tests.builders import RECEIPT, World
from tests.described import compare_every_answer
from tests.integration.history_tools import MINUTE, count_minutes, put, this_minute
from tests.terminal import Terminal

REJECTED = Rejected(code="gone", detail="Nobody lives there.", reason=RejectionReason.DESTINATION)


@pytest.fixture
def bot(terminal: Terminal) -> Iterator[FlaskClient]:
    """Calls the application as it is shipped; every answer is compared with its description."""
    app = wsgi.build_app(load_settings())
    compare_every_answer(app)
    yield app.test_client()


@pytest.fixture
def counted(world: World) -> Any:
    """The minute in which three requests came, of which two were delivered and one died."""
    begin = this_minute(world) - 3 * MINUTE
    for topic, outcome in (("both", RECEIPT), ("help", RECEIPT), ("help", REJECTED)):
        request = world.submit(topic).id
        world.deliver(request, outcome)
        if topic == "both":
            world.deliver(request, channel="inbox")
        put(world, request, begin, delivered_after=0.4)
    count_minutes(world, begin)
    return begin


def ask(bot: FlaskClient, **query: str) -> Any:
    answer = bot.get("/stats", query_string=query)
    assert answer.status_code == 200, answer.json
    return answer.json


def test_the_last_hour_is_told_unless_another_time_is_asked_for(bot: FlaskClient, counted: Any) -> None:
    told = ask(bot)
    assert (told["span_seconds"], told["channel"]) == (60, None)
    assert (told["total"]["accepted"], told["total"]["delivered"], told["total"]["dead"]) == (3, 2, 1)
    assert told["total"]["attempts"] == {"delivered": 3, "rejected": 1}
    assert 0.35 <= told["total"]["latency_seconds"]["p99"] <= 0.5
    assert {name: sums["delivered"] for name, sums in told["channels"].items()} == {"people": 2, "inbox": 1}
    (point,) = told["series"]
    assert point["begins_at"] == instant(counted)
    assert (point["accepted"], point["outbox"], point["breaker"]) == (3, None, None)


def test_a_channel_is_told_of_alone(bot: FlaskClient, counted: Any) -> None:
    told = ask(bot, channel="inbox")
    assert (told["total"]["accepted"], told["total"]["dead"], told["channels"].keys()) == (1, 0, {"inbox"})
    assert [point["delivered"] for point in told["series"]] == [1]


def test_a_channel_that_is_configured_and_quiet_has_nothing_to_tell(bot: FlaskClient) -> None:
    told = ask(bot, channel="inbox")
    assert (told["total"]["accepted"], told["series"], told["channels"]) == (0, [], {})


def test_a_time_is_told_in_the_spans_that_are_asked_for(bot: FlaskClient, counted: Any) -> None:
    since, until = instant(counted), instant(counted + MINUTE)
    assert since and until
    told = ask(bot, since=since, until=until, span="600")
    assert (told["since"], told["until"], told["span_seconds"]) == (since, until, 600)
    assert [point["accepted"] for point in told["series"]] == [3]
    assert ask(bot, until=since)["total"]["accepted"] == 0


def test_whoever_sees_only_his_own_requests_is_not_told_of_all(world: World, bot: FlaskClient) -> None:
    answers = {}
    for scope in (Scope.SUBMIT, Scope.READ, Scope.VIEW, Scope.OPERATE):
        with world.database.transaction() as connection:
            key = store.create(connection, f"with-{scope}", scopes=[scope])
        answers[scope] = bot.get("/stats", headers={"Authorization": f"Bearer {key.text}"}).status_code
    assert answers == {Scope.SUBMIT: 403, Scope.READ: 403, Scope.VIEW: 200, Scope.OPERATE: 200}
