"""The list of requests: what is looked for stands in the address, and what is done to many is asked for first."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from html import unescape
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import event
from werkzeug.test import TestResponse

from assistance.domain.answers import Accepted
from assistance.domain.operator import Role
from assistance.domain.outcome import Rejected, RejectionReason, RetryLater
from tests.builders import World
from tests.console_tools import Browser, signed_in, text_of
from tests.integration.operating_tools import finish

LIST = "/console/requests"
REFUSED = Rejected(code="not_in_channel", detail="The bot is not in the channel.", reason=RejectionReason.CONTENT)
NAUGHTY = '<script>alert(1)</script> @here \u202egnp.exe " onload="x ' + "w" * 3_900


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    opened = World(database_url, {"help": ("people",), "sales": ("people", "spare")})
    yield opened
    opened.close()


@pytest.fixture
def operator(world: World) -> Browser:
    return signed_in(world)


def html_of(answer: TestResponse) -> str:
    assert answer.status_code == 200, text_of(answer)
    return answer.get_data(as_text=True)


def listed(browser: Browser, query: str = "") -> list[str]:
    """The refs on the page, in their order."""
    return re.findall(r'<tr data-id="([^"]+)"', html_of(browser.get(f"{LIST}?{query}")))


def link(html: str, words: str) -> str:
    found = re.search(rf'href="([^"]+)"[^>]*>{re.escape(words)}<', html)
    assert found is not None, f"no link {words}"
    return unescape(found[1])


def fields_of(html: str) -> dict[str, str]:
    """The hidden fields of the form that begins an operation."""
    form = html.split('action="/console/requests/begin')[1].split("</form>")[0]
    return {name: unescape(value) for name, value in re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', form)}


def confirm(browser: Browser, act: str, *requests: Accepted, query: str = "") -> TestResponse:
    form: dict[str, Any] = {"act": act, "id": [str(request.id) for request in requests]}
    return browser.act(f"{LIST}/confirm?{query}", form, page=LIST)


def begin(browser: Browser, asked: TestResponse, *, query: str = "", **form: str) -> TestResponse:
    fields = {**fields_of(html_of(asked)), "per_second": "100", "reason": "As the runbook says.", **form}
    return browser.post(f"{LIST}/begin?{query}", fields)


def dead(world: World, **said: Any) -> Accepted:
    request = world.submit(**said)
    world.deliver(request.id, REFUSED)
    return request


def operation(world: World) -> Any:
    (row,) = world.rows("SELECT * FROM operations")
    return row


def test_every_filter_of_the_form_finds_what_it_says_and_presets_are_filters(world: World, operator: Browser) -> None:
    waiting = world.submit(description="The printer is <on> fire 100%.", customer={"id": "c-1"})
    world.deliver(waiting.id, RetryLater(code="busy", detail="Later."))
    delivered = world.submit(topic="sales")
    world.deliver(delivered.id)
    gone = dead(world)
    world.execute("UPDATE requests SET created_at = created_at - interval '10 minutes' WHERE id = :id", id=waiting.id)
    assert listed(operator) == [gone.ref, delivered.ref, waiting.ref]
    assert listed(operator, "order=oldest") == [waiting.ref, delivered.ref, gone.ref]
    for query, expected in {
        f"q={gone.ref}": [gone.ref],
        f"q={waiting.id}": [waiting.ref],
        "status=undeliverable": [gone.ref],
        "topic=sales": [delivered.ref],
        "channel=spare": [delivered.ref],
        "delivery_state=dead": [gone.ref],
        "text=100%25": [waiting.ref],
        "attempts_from=1&status=accepted": [delivered.ref, waiting.ref],
        "since=5m": [gone.ref, delivered.ref],
        "status=&topic=&q=": [gone.ref, delivered.ref, waiting.ref],
    }.items():
        assert listed(operator, query) == expected, query
    html = html_of(operator.get(LIST))
    assert listed(operator, link(html, "Waiting &gt; 5 min").split("?")[1]) == [waiting.ref]
    assert listed(operator, link(html, "Retrying").split("?")[1]) == [waiting.ref]
    assert listed(operator, link(html, "Dead today").split("?")[1]) == [gone.ref]
    assert "<title>Requests (3)" in html
    assert f'href="{LIST}/{gone.ref}?status=undeliverable"' in html_of(operator.get(f"{LIST}?status=undeliverable"))


#: What is wrong with an address, and the name of the filter that is at fault.
MISTAKES = (
    ("since=yesterday", "since"),
    ("until=99999-01-01", "until"),
    ("status=lost", "status"),
    ("attempts_from=-1", "attempts_from"),
    ("place=nonsense", "place"),
    ("place=" + "o" * 33, "place"),
    ("order=random", "order"),
    ("statsu=dead", "statsu"),
    ("text=%00", "text"),
    ("q=" + "x" * 300, "q"),
)


def test_a_filter_that_makes_no_sense_is_named_and_can_be_cleared(operator: Browser) -> None:
    for query, named in MISTAKES:
        answer = operator.get(f"{LIST}?topic=help&{query}")
        assert answer.status_code == 400, query
        assert f"The filter {named} " in text_of(answer)
        assert link(answer.get_data(as_text=True), "Clear it") == f"{LIST}?topic=help"


def test_an_address_of_bytes_that_are_no_text_is_refused(operator: Browser) -> None:
    answer = operator.client.get(LIST, environ_overrides={"REMOTE_ADDR": "127.0.0.1", "QUERY_STRING": "q=\xff\xfe"})
    assert answer.status_code == 400, text_of(answer)


def test_pages_follow_one_another_while_new_requests_arrive(world: World, operator: Browser) -> None:
    made = [world.submit().ref for _ in range(120)]
    html = html_of(operator.get(LIST))
    seen = listed(operator)
    assert "50 of 120, the newest first" in text_of(operator.get(LIST))
    for _ in range(2):
        for _ in range(3):
            world.submit()
        older = link(html, "Older")
        html = html_of(operator.get(older))
        seen += listed(operator, older.split("?")[1])
    assert seen == list(reversed(made))
    assert link(html, "To the beginning of the list") == LIST
    newer = link(html, "Newer")
    assert listed(operator, newer.split("?")[1]) == list(reversed(made))[50:100]


def test_an_empty_list_says_which_kind_of_nothing_it_is(world: World, operator: Browser) -> None:
    text = text_of(operator.get(LIST))
    assert "No request yet." in text
    assert "curl -i http://localhost/assistance" in text
    world.submit()
    html = html_of(operator.get(f"{LIST}?topic=help&since=2999-01-01"))
    assert link(html, "The same at any time") == f"{LIST}?topic=help"
    text = text_of(operator.get(f"{LIST}?topic=sales&status=expired"))
    assert "Nothing matches. You are looking for: status expired , topic sales ." in text
    assert "Clear the filters" in text


def test_words_of_customers_are_text_and_hidden_from_viewers_where_it_is_so_set(world: World) -> None:
    request = world.submit(description=NAUGHTY[:4_000], title="")
    operator = signed_in(world)
    html = html_of(operator.get(LIST))
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "w" * 200 not in html
    viewer = signed_in(world, Role.VIEWER, hide_text=True)
    html = html_of(viewer.get(LIST))
    assert "alert(1)" not in html
    assert "alert(1)" not in viewer.get(f"{LIST}.csv").get_data(as_text=True)
    assert f'href="{LIST}/{request.ref}"' in html
    assert "data-select" not in html


def test_what_matches_goes_into_a_file_whose_cells_are_no_formulas(world: World, operator: Browser) -> None:
    made = [world.submit(description=f"=cmd|{number}", topic="sales") for number in range(3)]
    world.submit()
    answer = operator.get(f"{LIST}.csv?topic=sales&order=oldest")
    assert answer.mimetype == "text/csv"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="requests.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.get_data(as_text=True))))
    assert [row["ref"] for row in rows] == [request.ref for request in made]
    assert [row["beginning of the description"] for row in rows] == [f"'=cmd|{number}" for number in range(3)]
    assert rows[0]["channels"] == "people pending; spare pending"
    assert operator.get(f"{LIST}.csv?since=never").status_code == 400


def test_an_open_list_costs_two_statements_for_each_refresh(world: World, operator: Browser) -> None:
    world.submit()
    first = operator.get(LIST, headers={"X-Refresh": "1"})
    statements: list[str] = []

    def count(_c: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    engine = world.database._engine
    event.listen(engine, "before_cursor_execute", count)
    again = operator.get(LIST, headers={"X-Refresh": "1", "If-None-Match": first.headers["ETag"]})
    event.remove(engine, "before_cursor_execute", count)
    assert again.status_code == 304
    assert len(statements) <= 1, statements  # beside the one that finds the session
    assert "data-steady" in html_of(operator.get(LIST))


def test_the_selected_are_replayed_as_an_operation_on_their_dead_letters(world: World, operator: Browser) -> None:
    first, second, other = dead(world), dead(world), dead(world)
    asked = confirm(operator, "replay", first, second)
    assert "Replay 2 dead letters?" in text_of(asked)
    assert "Meant: the 2 selected requests." in text_of(asked)
    begun = begin(operator, asked)
    assert begun.status_code == 303, text_of(begun)
    assert begun.location == "/console/operations"
    order = operation(world)
    letters = {letter.delivery_id: str(letter.id) for letter in world.letters()}
    wanted = {letters[world.delivery(request.id).id] for request in (first, second)}
    assert (order.kind, order.expected, order.per_second) == ("replay", 2, 100.0)
    assert set(order.filter["ids"].split(",")) == wanted
    assert (order.actor, order.reason) == ("the-operator", "As the runbook says.")
    assert finish(world, order.id).refused == 0
    assert [world.delivery(request.id).state for request in (first, second, other)] == ["pending", "pending", "dead"]
    assert "Replay (console) as part of operation" in text_of(operator.get(f"{LIST}/{first.ref}"))


def test_all_that_match_are_cancelled_by_the_filter_itself(world: World, operator: Browser) -> None:
    for _ in range(3):
        world.submit(topic="sales")
    world.submit()
    query = "topic=sales&order=oldest"
    asked = confirm(operator, "cancel-all", query=query)
    assert "Cancel 3 requests?" in text_of(asked)
    assert "Meant: all 3 requests that match, topic sales ." in text_of(asked)
    assert begin(operator, asked, query=query).status_code == 303
    order = operation(world)
    assert (order.kind, order.filter, order.expected) == ("cancel", {"topic": "sales"}, 3)
    assert finish(world, order.id).refused == 0
    assert world.count("requests", "status = 'cancelled' AND topic = 'sales'") == 3
    assert world.count("requests", "status = 'accepted'") == 1


def test_the_selected_are_moved_to_a_channel_of_the_file_only(world: World, operator: Browser) -> None:
    request = world.submit()
    asked = confirm(operator, "reroute", request)
    assert begin(operator, asked, channel="nowhere").status_code == 400
    assert begin(operator, asked, channel="spare").status_code == 303
    order = operation(world)
    assert (order.kind, order.parameters, order.filter) == ("reroute", {"to": "spare"}, {"ids": str(request.id)})
    assert finish(world, order.id).refused == 0
    assert world.delivery(request.id, "spare").state == "pending"


def test_an_act_is_refused_when_more_match_than_were_shown(world: World, operator: Browser) -> None:
    for _ in range(10):
        dead(world)
    asked = {act: confirm(operator, act) for act in ("cancel-all", "replay-all")}
    dead(world)
    dead(world)
    for answer in asked.values():
        refused = begin(operator, answer)
        assert refused.status_code == 409, text_of(refused)
        assert "12 requests match now and 10 were shown" in text_of(refused)
    assert world.count("operations") == 0


def test_a_form_that_was_changed_begins_nothing(world: World, operator: Browser) -> None:
    asked = confirm(operator, "cancel", world.submit())
    for changed in (
        {"reason": ""},
        {"per_second": "0"},
        {"per_second": "many"},
        {"per_second": "1e5"},
        {"shown": "nan"},
        {"act": "delete"},
        {"ids": "nonsense"},
        {"ids": "1" * 50_000},
    ):
        refused = begin(operator, asked, **changed)
        assert refused.status_code == 400, (changed, text_of(refused))
    assert world.count("operations") == 0


def test_an_act_on_nothing_is_refused(world: World, operator: Browser) -> None:
    request = world.submit()
    assert "No request is selected" in text_of(confirm(operator, "cancel"))
    assert "None of these requests has an open dead letter" in text_of(confirm(operator, "replay", request))
    unknown = operator.act(f"{LIST}/confirm", {"act": "cancel", "id": str(uuid4())}, page=LIST)
    assert "Nothing matches any more" in text_of(unknown)


def test_a_viewer_and_a_forged_token_begin_nothing(world: World, operator: Browser) -> None:
    request = world.submit()
    viewer = signed_in(world, Role.VIEWER)
    assert confirm(viewer, "cancel", request).status_code == 403
    fields = {**fields_of(html_of(confirm(operator, "cancel", request))), "per_second": "10", "reason": "x"}
    assert operator.post(f"{LIST}/begin", {**fields, "csrf": "forged"}).status_code == 403
    assert viewer.act(f"{LIST}/begin", {k: v for k, v in fields.items() if k != "csrf"}, page=LIST).status_code == 403
    assert world.count("operations") == 0
