"""The page of dead letters: their causes, the letters, and what is done with them."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from assistance.deliveries.bury import record_stray
from assistance.domain.operator import Role
from assistance.domain.outcome import Rejected, RejectionReason
from tests.builders import World
from tests.console_tools import signed_in, text_of

LIST = "/console/dead?view=rows"


def dead(world: World, detail: str = "Gone.", code: str = "gone", **said: Any) -> UUID:
    request = world.submit(**said).id
    world.deliver(request, Rejected(code=code, detail=detail, reason=RejectionReason.DESTINATION))
    return request


def stands(world: World) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in world.rows("SELECT resolution, resolved_by FROM dead_letters ORDER BY id")]


def test_letters_of_one_cause_are_one_line_with_a_count(world: World) -> None:
    for number in range(3):
        dead(world, f"No such channel C0{number}.")
    dead(world, "Not in this life.", code="never")
    browser = signed_in(world, Role.VIEWER)
    page = browser.get("/console/dead")
    assert page.status_code == 200
    rows = re.findall(r"<tr data-id=.*?</tr>", page.text, re.DOTALL)
    assert len(rows) == 2
    assert '<td class="number">3' in rows[0]
    assert '<td class="number">1' in rows[1]
    assert "(4) Dead letters" in page.text
    of_first = re.findall(r'<a data-open href="([^"]+)"', rows[0])[0].replace("&amp;", "&")
    letters = re.findall(r'<tr data-id="(\d+)"', browser.get(of_first).text)
    assert len(letters) == 3


def test_no_dead_letters_are_good_news(world: World) -> None:
    browser = signed_in(world)
    assert "No dead letters." in text_of(browser.get("/console/dead"))
    dead(world)
    browser.act("/console/dead/discard", {"letter": "1", "reason": "a drill"}, page="/console/dead")
    page = text_of(browser.get("/console/dead"))
    assert "No dead letters. The last one was resolved" in page
    assert "(discarded by the-operator)" in page
    assert "No open dead letter matches these filters." in text_of(browser.get("/console/dead?topic=other"))


def test_one_letter_is_replayed_and_delivered(world: World) -> None:
    request = dead(world)
    browser = signed_in(world, name="ada")
    answer = browser.act("/console/dead/replay", {"letter": "1", "reason": "the channel is back"}, page=LIST)
    assert answer.status_code == 303
    assert "1 dead letter was put back." in text_of(browser.get("/console/dead"))
    assert stands(world) == [("replayed", "ada")]
    world.deliver(request)
    assert world.request(request).status == "delivered"
    (line,) = world.rows("SELECT actor, via, action, subject, reason FROM audit WHERE subject_kind = 'dead_letter'")
    assert tuple(line) == ("ada", "console", "replay", "1", "the channel is back")


def test_the_chosen_letters_are_discarded_for_a_reason_and_the_others_stay(world: World) -> None:
    for _ in range(3):
        dead(world)
    browser = signed_in(world)
    without = browser.act("/console/dead/discard", {"letter": ["1", "3"], "reason": "  "}, page=LIST)
    assert without.status_code == 400
    assert "Say why" in text_of(without)
    assert stands(world) == [(None, None)] * 3
    answer = browser.act("/console/dead/discard", {"letter": ["1", "3"], "reason": "asked by phone"}, page=LIST)
    assert answer.status_code == 303
    assert stands(world) == [("discarded", "the-operator"), (None, None), ("discarded", "the-operator")]


def test_what_cannot_be_replayed_any_more_is_said(world: World) -> None:
    dead(world)
    one, two = signed_in(world, name="ada"), signed_in(world, name="bob")
    token_two = two.token_on(LIST)
    assert one.act("/console/dead/replay", {"letter": "1"}, page=LIST).status_code == 303
    late = two.post("/console/dead/replay", {"csrf": token_two, "letter": ["1", "2"]})
    assert late.status_code == 303
    assert "0 dead letters were put back. 2 refused:" in text_of(two.get("/console/dead"))
    assert stands(world) == [("replayed", "ada")]


def test_all_that_match_become_an_operation_with_the_filter_and_the_count_that_were_shown(world: World) -> None:
    for number in range(4):
        dead(world, topic="help", description=f"Number {number}")
    browser = signed_in(world, name="ada")
    page = browser.get("/console/dead?channel=people")
    form = re.findall(r'<form method="post" action="/console/dead/all".*?</form>', page.text, re.DOTALL)[0]
    assert "Replay 4 dead letters to people: at 10 a second within a second" in " ".join(form.split())
    hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', form))
    assert {name: hidden[name] for name in ("kind", "filter", "shown")} == {
        "kind": "replay",
        "filter": "channel=people",
        "shown": "4",
    }
    answer = browser.post("/console/dead/all", {**hidden, "per_second": "2.5", "reason": "back"})
    assert answer.status_code == 303
    (row,) = world.rows("SELECT * FROM operations")
    assert (row.kind, row.filter, row.expected, row.per_second) == ("replay", {"channel": "people"}, 4, 2.5)
    assert (row.actor, row.via, row.reason, row.state) == ("ada", "console", "back", "waiting")
    assert answer.headers["Location"] == f"/console/operations/{row.id}"
    assert "The operation has begun." in text_of(browser.get(answer.headers["Location"]))
    assert stands(world) == [(None, None)] * 4


def test_an_act_on_all_is_refused_when_others_came_meanwhile(world: World) -> None:
    for _ in range(5):
        dead(world)
    browser = signed_in(world)
    answer = browser.act("/console/dead/all", {"kind": "replay", "filter": "", "shown": "4"}, page="/console/dead")
    assert answer.status_code == 409
    assert "5 match now and 4 were shown" in text_of(answer)
    for form in (
        {"kind": "discard", "shown": "5"},
        {"kind": "replay", "shown": "many"},
        {"kind": "replay", "shown": "5", "per_second": "0"},
        {"kind": "replay", "shown": "5", "per_second": "nan"},
        {"kind": "replay", "shown": "5", "filter": "colour=red"},
    ):
        assert browser.act("/console/dead/all", form, page="/console/dead").status_code == 400, form
    assert world.count("operations") == 0


def test_a_form_with_numbers_that_are_none_changes_nothing(world: World) -> None:
    dead(world)
    browser = signed_in(world)
    for letters in ([], ["0"], ["-1"], ["one"], ["1 OR true"], ["99999999999999999999"], ["²"], ["1"] * 101):
        assert browser.act("/console/dead/replay", {"letter": letters}, page=LIST).status_code == 400, letters
    assert stands(world) == [(None, None)]


def test_a_letter_without_a_request_shows_what_was_lost_as_text(world: World) -> None:
    body = "<img src=x onerror=alert(1)>\u202eevil".encode() + b"\xff"
    world.database.run(
        lambda c: record_stray(
            c, source="broker", reason="undecodable", error="<b>no</b>", message_id=None, body=body, headers={}
        )
    )
    browser = signed_in(world)
    assert "none that is known" in text_of(browser.get("/console/dead/1"))
    page = browser.get("/console/dead/1").text
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "&lt;b&gt;no&lt;/b&gt;" in page
    for missing in ("2", "0", "9" * 30):
        assert browser.get(f"/console/dead/{missing}").status_code == 404


def test_pages_of_letters_lead_from_the_newest_to_the_oldest_and_back(world: World) -> None:
    request = dead(world)
    (row,) = world.rows("SELECT id FROM deliveries WHERE request_id = :id", id=request)
    world.execute(
        "INSERT INTO dead_letters (delivery_id, series, channel, source, reason, error, created_at)"
        " SELECT :delivery, number + 1, 'people', 'consumer', 'rejected', 'x', now() - make_interval(mins => number)"
        " FROM generate_series(1, 119) AS number",
        delivery=row.id,
    )
    browser = signed_in(world, Role.VIEWER)
    url, seen = LIST, []
    for _ in range(3):
        page = browser.get(url).text
        seen += [int(number) for number in re.findall(r'<tr data-id="(\d+)"', page)]
        older = re.findall(r'rel="next" href="([^"]+)"', page)
        if older:
            url = older[0].replace("&amp;", "&")
    assert seen == list(range(1, 121))
    newer = re.findall(r'rel="prev" href="([^"]+)"', page)[0].replace("&amp;", "&")
    assert re.findall(r'<tr data-id="(\d+)"', browser.get(newer).text)[0] == "51"
