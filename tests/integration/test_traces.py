"""One trace shows one request: the call, relay, consumer and channel, whatever happens on the way."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
import structlog
from flask.testing import FlaskClient
from structlog.testing import LogCapture

from assistance.api.app import create_app
from assistance.deliveries.replay import replay
from assistance.domain.outcome import Delivered, Found, Rejected, RejectionReason, RetryLater, Unknown
from assistance.domain.request import Submission
from assistance.domain.route import Route, Step
from assistance.intake.call import Call
from assistance.intake.routing import plan
from assistance.intake.together import store_together
from assistance.runtime.clock import Deadline
from assistance.tracing.context import span_id_of_attempt
from tests.builders import CHECK_AFTER, Line, ScriptedChannel, World
from tests.memory_door import MemoryDoor
from tests.recorded_spans import RecordedSpans, id_of, linked, parent_of, recording

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLER = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
LATER = RetryLater(code="busy", detail="Busy.")
ARRIVED = Delivered(receipt={"id": "1"})

Lines = Callable[..., Line]


@pytest.fixture
def spans() -> Iterator[RecordedSpans]:
    with recording() as recorded:
        yield recorded


@pytest.fixture
def lines() -> Iterator[Lines]:
    made: list[Line] = []

    def make(world: World, /, **channels: ScriptedChannel) -> Line:
        made.append(Line(world, channels))
        return made[-1]

    yield make
    for line in made:
        line.stop()


@pytest.fixture
def bot(world: World) -> FlaskClient:
    return bot_of(world)


def bot_of(world: World, **door: Any) -> FlaskClient:
    topics = list(world.configuration.topics)
    door = {"submit": world.intake.submit, "acts": world.acts, "topics": lambda: topics, **door}
    return create_app(replace(MemoryDoor().door(), **door)).test_client()


def ask(bot: FlaskClient, headers: dict[str, str] | None = None, said: dict[str, Any] | None = None) -> UUID:
    body = {"topic": "help", "description": "The printer is on fire."} | (said or {})
    answer = bot.post("/assistance", json=body, headers=headers or CALLER)
    assert answer.status_code == 202, answer.text
    return UUID(answer.get_json()["id"])


def ended(world: World, request: UUID, status: str = "delivered") -> Callable[[], bool]:
    return lambda: bool(world.request(request).status == status and not world.count("outbox"))


def test_one_trace_shows_a_request_and_its_retry_in_all_stages(
    world: World, bot: FlaskClient, lines: Lines, spans: RecordedSpans
) -> None:
    line = lines(world, people=ScriptedChannel(LATER, ARRIVED))
    request = ask(bot)
    line.run_until(ended(world, request))
    line.stop()
    twice = ("publish people", "process people", "claim", "send people", "settle")
    assert spans.names() == {"POST /assistance": 1, "store": 1} | dict.fromkeys(twice, 2)
    assert spans.traces() == {int(TRACE, 16)}
    call = spans.one("POST /assistance")
    assert parent_of(call) == int(SPAN, 16)
    assert parent_of(spans.one("store")) == id_of(call)
    for published, processed, *parts in zip(*(spans.named(name) for name in twice), strict=True):
        assert parent_of(published) == id_of(call)
        assert parent_of(processed) == id_of(published)
        assert {parent_of(part) for part in parts} == {id_of(processed)}
    first, second = spans.named("send people")
    assert (linked(first), linked(second)) == ([], [id_of(first)])
    told = [(span.attributes or {}) for span in (first, second)]
    assert [each["assistance.outcome"] for each in told] == ["retry_later", "delivered"]
    assert [each["assistance.attempt"] for each in told] == [1, 2]
    assert told[0]["assistance.code"] == "busy"
    assert [span.status.is_ok for span in (first, second)] == [False, True]


def test_a_replay_goes_on_in_the_same_trace_and_names_the_attempt_that_failed(
    world: World, bot: FlaskClient, lines: Lines, spans: RecordedSpans
) -> None:
    gone = Rejected(code="gone", detail="Gone.", reason=RejectionReason.DESTINATION)
    line = lines(world, people=ScriptedChannel(LATER, gone, ARRIVED))
    request = ask(bot)
    line.run_until(ended(world, request, "undeliverable"))
    (letter,) = world.letters()
    world.database.run(lambda connection: replay(connection, letter.id, actor="me", check_after=CHECK_AFTER))
    line.run_until(ended(world, request))
    line.stop()
    first, second, third = spans.named("send people")
    assert (linked(first), linked(second), linked(third)) == ([], [id_of(first)], [id_of(second)])
    assert [link.attributes for link in third.links] == [{"assistance.series": 1, "assistance.attempt": 2}]
    assert spans.names()["publish people"] == 3
    assert spans.traces() == {int(TRACE, 16)}


def test_a_look_up_names_the_attempt_that_it_asks_about(
    world: World, bot: FlaskClient, lines: Lines, spans: RecordedSpans
) -> None:
    channel = ScriptedChannel(Unknown(code="cut", detail="Cut."), looks=[Found(receipt={"id": "2"})])
    line = lines(world, people=channel)
    line.run_until(ended(world, ask(bot)))
    line.stop()
    assert linked(spans.one("look up people")) == [id_of(spans.one("send people"))]
    assert spans.one("look up people").status.is_ok
    assert spans.traces() == {int(TRACE, 16)}


def test_a_hint_that_was_lost_or_a_holder_that_died_does_not_break_the_trace(
    world: World, bot: FlaskClient, lines: Lines, spans: RecordedSpans
) -> None:
    request = ask(bot)
    world.take(request)  # by a process that exported nothing and is gone
    world.execute("DELETE FROM outbox")
    world.end_leases()
    world.conciliation().one_pass()
    line = lines(world, people=ScriptedChannel(ARRIVED))
    world.execute("UPDATE deliveries SET check_at = now()")
    world.conciliation().one_pass()
    line.run_until(lambda: spans.named("look up people"))
    line.stop()
    dead = span_id_of_attempt(world.delivery(request).id, 1, 1)
    assert linked(spans.named("look up people")[0]) == [int(dead, 16)]
    assert parent_of(spans.named("publish people")[0]) == id_of(spans.one("POST /assistance"))
    assert spans.traces() == {int(TRACE, 16)}


def test_what_is_added_and_what_steps_in_belong_to_the_trace_as_well(
    worlds: Callable[..., World], lines: Lines, spans: RecordedSpans
) -> None:
    plan_of_help = Route(to=("people",), fallback=(Step(to=("inbox",), after_seconds=None),))
    world = worlds({"help": plan_of_help})
    gone = Rejected(code="gone", detail="Gone.", reason=RejectionReason.DESTINATION)
    line = lines(world, people=ScriptedChannel(gone), inbox=ScriptedChannel(ARRIVED))
    request = ask(bot_of(world))
    line.run_until(ended(world, request))
    world.add(request, "It is out.")
    line.run_until(lambda: len(spans.named("process inbox")) == 2)
    line.stop()
    assert {parent_of(span) for span in spans.named("publish inbox")} == {id_of(spans.one("POST /assistance"))}
    assert spans.names()["send inbox"] == 2
    assert spans.traces() == {int(TRACE, 16)}


def test_a_call_without_a_trace_begins_one_and_each_request_keeps_its_own(
    world: World, bot: FlaskClient, lines: Lines, spans: RecordedSpans
) -> None:
    line = lines(world, people=ScriptedChannel(ARRIVED))
    requests = [ask(bot, {"X-Request-Id": f"call-{number}"}) for number in range(3)]
    line.run_until(lambda: world.count("requests", "status = 'delivered'") == 3)
    line.stop()
    assert len(spans.traces()) == 3
    for number, request in enumerate(requests):
        (call,) = [
            span for span in spans.all() if (span.attributes or {}).get("assistance.call.id") == f"call-{number}"
        ]
        assert call.parent is None
        assert {span.context.trace_id for span in spans.all() if span.context and str(request) in span.to_json()} == {
            call.context and call.context.trace_id
        }


def test_requests_that_share_a_statement_keep_their_own_traces(world: World) -> None:
    whole = plan(world.configuration, "help")
    headers = [None, CALLER["traceparent"], f"00-{TRACE[::-1]}-{SPAN}-00"]
    calls = [
        Call(client="", submission=Submission(topic="help", description="?"), plan=whole, key=None, traceparent=header)
        for header in headers
    ]
    stored = store_together(world.database, calls, Deadline.after(20), check_after=CHECK_AFTER)
    found = {row.request_id: row.headers for row in world.rows("SELECT request_id, headers FROM outbox")}
    expected = [{} if header is None else {"traceparent": header} for header in headers]
    assert [found[accepted.id] for accepted in stored if accepted] == expected


def test_a_caller_whose_trace_is_not_sampled_gets_no_spans_and_its_id_in_the_logs(
    world: World, bot: FlaskClient, lines: Lines, spans: RecordedSpans, logs: list[Any]
) -> None:
    line = lines(world, people=ScriptedChannel(LATER, ARRIVED))
    line.run_until(ended(world, ask(bot, {"traceparent": f"00-{TRACE}-{SPAN}-00"})))
    line.stop()
    assert spans.all() == []
    assert settled(logs) == [TRACE, TRACE]


def test_with_traces_off_the_logs_still_name_the_trace_of_the_caller(
    world: World, bot: FlaskClient, lines: Lines, logs: list[Any]
) -> None:
    line = lines(world, people=ScriptedChannel(LATER, ARRIVED))
    traced, plain = ask(bot), ask(bot, {"X-Request-Id": "no-trace"})
    line.run_until(lambda: world.count("requests", "status = 'delivered'") == 2)
    line.stop()
    assert [line.get("trace_id") for line in logs if line["event"] == "api.answered"] == [TRACE, None]
    assert {line.get("trace_id") for line in logs if line.get("request") == str(traced)} == {TRACE}
    assert {line.get("trace_id") for line in logs if line.get("request") == str(plain)} == {None}


@pytest.mark.parametrize("header", [f"00-{'0' * 32}-{SPAN}-01", CALLER["traceparent"] + "-more", "x" * 8000])
def test_a_forged_header_is_as_if_it_were_not_there(world: World, bot: FlaskClient, header: str) -> None:
    off = ask(bot, {"traceparent": header})
    with recording() as spans:
        on = ask(bot, {"traceparent": header})
    assert "traceparent" not in world.request(off).route
    assert spans.one("POST /assistance").parent is None
    (context,) = spans.traces()
    assert world.request(on).route["traceparent"].split("-")[1] == f"{context:032x}"


def test_no_span_holds_a_word_of_a_customer(world: World, bot: FlaskClient, lines: Lines, spans: RecordedSpans) -> None:
    canary = secrets.token_hex(6)
    customer = {"id": canary, "name": canary, "email": f"{canary}@example.com"}
    said = {"description": canary, "title": canary, "metadata": {"note": canary}, "customer": customer}

    def break_down() -> Delivered:
        raise RuntimeError(canary)

    line = lines(world, people=ScriptedChannel(RetryLater(code="busy", detail=canary), break_down, ARRIVED))
    request = ask(bot, said=said)
    line.run_until(ended(world, request))
    bot.post(f"/assistance/{request}/messages", json={"text": canary}, headers=CALLER)
    bot.post(f"/assistance/{canary}/messages?{canary}", json={"text": canary}, headers=CALLER)
    line.stop()
    assert len(spans.all()) > 10
    assert canary not in spans.text()


def test_a_fault_of_ours_is_in_the_span_of_its_call_without_what_it_may_quote(
    world: World, spans: RecordedSpans
) -> None:
    canary = secrets.token_hex(6)

    def submit(*_: Any, **__: Any) -> Any:
        raise ValueError(canary)

    answer = bot_of(world, submit=submit).post(
        "/assistance", json={"topic": "help", "description": canary}, headers=CALLER
    )
    assert answer.status_code == 500
    call = spans.one("POST /assistance")
    (event,) = call.events
    assert not call.status.is_ok
    assert (event.attributes or {})["exception.type"] == "ValueError"
    assert "in submit" in str((event.attributes or {})["exception.stacktrace"])
    assert canary not in spans.text()


def test_calls_that_only_look_and_calls_that_lead_nowhere_make_no_spans(bot: FlaskClient, spans: RecordedSpans) -> None:
    assert bot.get("/healthz", headers=CALLER).status_code in (200, 404)
    assert bot.get("/assistance", headers=CALLER).status_code < 500
    assert bot.post("/nowhere", headers=CALLER).status_code == 404
    assert spans.all() == []


def test_of_the_traces_that_begin_here_as_many_are_kept_as_the_sampler_says(world: World, bot: FlaskClient) -> None:
    with recording(ratio=0.0) as spans:
        request = ask(bot, {"X-Request-Id": "new"})
        assert world.request(request).route["traceparent"].endswith(("-00", "-02"))
        ask(bot)
    assert spans.traces() == {int(TRACE, 16)}


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    before, capture = structlog.get_config(), LogCapture()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, capture])
    yield capture.entries
    structlog.configure(**before)


def settled(logs: list[Any]) -> list[str | None]:
    return [line.get("trace_id") for line in logs if line["event"] == "consumer.settled"]
