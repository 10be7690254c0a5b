"""The first page of the console: what is wrong and since when, what goes on, and how it came about."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest

from assistance.deliveries.channel_states import PauseCause, pause
from assistance.domain.operator import Role
from tests.builders import World
from tests.console_tools import Browser, signed_in, text_of
from tests.integration.overview_tools import NAUGHTY, REFUSED, an_hour_of, beat, hold, open_breaker

CHARTS = ("flow", "waiting", "outbox", "backlog", "attempts", "states")
_DATA = re.compile(r'<figure data-chart="(\w+)".*?</figure>', re.DOTALL)


def figures(browser: Browser, query: str = "") -> dict[str, str]:
    page = browser.get(f"/console/{query}").get_data(as_text=True)
    return {match[1]: match[0] for match in _DATA.finditer(page)}


def data_of(figure: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json">(.*?)</script>', figure, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


@pytest.fixture
def working(world: World) -> World:
    beat(world, "relay", "consumer", "conciliation")
    return world


def test_good_news_is_said_in_words_of_its_own(working: World) -> None:
    said = text_of(signed_in(working, Role.VIEWER).get("/console/"))
    assert "All channels deliver" in said
    assert "Nothing is wrong: every channel delivers" in said


def test_every_open_problem_is_a_line_with_its_cause_and_a_way_to_act(worlds: Callable[..., World]) -> None:
    world = worlds({"help": ("people",), "old": ("gone",)})
    world.submit("old")
    world.deliver(world.submit().id, REFUSED)
    world.database.run(lambda c: pause(c, "people", cause=PauseCause.OPERATOR, reason=NAUGHTY, by="ada"))
    open_breaker(world, "people", "Nobody answers.")
    world.submit()
    world.execute("UPDATE outbox SET available_at = now() - interval '1 min', refusals = 2, last_error = 'no route'")
    after = worlds({"help": ("people",)})
    beat(after, "relay", state='{"broker": "blocked"}')
    beat(after, "consumer")
    browser = signed_in(after, Role.VIEWER)
    answer = browser.get("/console/")
    said = text_of(answer)
    assert "No conciliation runs: no straggler is found." in said
    assert "The connection of the relay to the broker is blocked." in said
    assert "due hints not published." in said
    assert "of people came back from the broker." in said
    assert "people is paused by ada. 1 delivery waits." in said
    assert "The circuit breaker of people is open. 1 delivery waits." in said
    assert "Nobody answers." in said
    assert "1 dead letter on people in the last day: rejected." in said
    assert "gone left the configuration file with 1 delivery open: they wait for it." in said
    page = answer.get_data(as_text=True)
    assert NAUGHTY in said
    assert NAUGHTY not in page
    for url in ("/console/channels/people", "/console/pipeline", "/console/dead?cause="):
        assert f'href="{url}' in page
    assert "open) Overview" in page
    cause = re.search(r'href="(/console/dead\?cause=[^"]*)"', page)
    assert cause is not None
    assert "no_such_place" in text_of(browser.get(unescape(cause[1])))


def test_what_is_held_leads_to_the_requests_that_somebody_has_to_settle(working: World) -> None:
    hold(working, working.submit().ref)
    browser = signed_in(working)
    page = browser.get("/console/")
    assert "1 delivery on people held: somebody has to say what became of it." in text_of(page)
    listed = re.search(
        r'href="(/console/requests\?channel=people&amp;delivery_state=held)"', page.get_data(as_text=True)
    )
    assert listed is not None
    assert working.rows("SELECT ref FROM requests")[0].ref in text_of(browser.get(unescape(listed[1])))


def test_the_last_hour_and_what_waits_now_are_counted(working: World) -> None:
    an_hour_of(working)
    said = text_of(signed_in(working, Role.VIEWER).get("/console/"))
    assert "Accepted 4 Delivered 3 Dead letters 1 Waiting now 1 Retrying now 0 Held now 0" in said
    assert "people ● delivers 0.6 " in said  # three in five minutes
    assert "25.0 % 1" in said  # one try of four failed, and one delivery waits


def test_each_chart_says_the_same_in_a_sentence_in_a_drawing_and_in_a_table(working: World) -> None:
    an_hour_of(working)
    found = figures(signed_in(working, Role.VIEWER))
    assert tuple(found) == CHARTS
    flow = data_of(found["flow"])
    assert "4 accepted, 3 delivered, 1 dead letters." in unescape(found["flow"])
    totals = {one["label"]: sum(value or 0 for value in one["values"]) for one in flow["series"]}
    assert totals == {"delivered": 3, "dead": 1, "accepted": 4}
    assert len(flow["x"]) == len(flow["series"][0]["values"]) >= 60
    rows = re.findall(r'<td class="number">(\d+)</td>' * 3, found["flow"])
    assert ("3", "1", "4") in rows
    assert "Half were delivered within" in found["waiting"]
    assert "4 attempts ended, 1 of them not delivered (25.0 %)." in found["attempts"]
    assert "1 unfinished now" in found["backlog"]
    assert all("Show as table" in figure for figure in found.values())


def test_the_strip_shows_when_a_channel_was_out(working: World) -> None:
    working.database.run(lambda c: pause(c, "people", cause=PauseCause.OPERATOR, reason="moving", by="ada"))
    an_hour_of(working)
    strip = figures(signed_in(working, Role.VIEWER))["states"]
    assert "Out: people paused" in strip
    assert re.search(r'<rect class="band-paused" x="\d+" width="\d+"', strip)


def test_span_and_channel_of_the_charts_are_in_the_address(working: World) -> None:
    an_hour_of(working)
    browser = signed_in(working, Role.VIEWER)
    page = browser.get("/console/?span=24h&channel=people").get_data(as_text=True)
    assert "The last 24h on people" in page
    assert "per 10 minutes" in page
    assert "Backlog by state" in page
    assert 'data-from="/console/charts?span=24h&amp;channel=people"' in page
    alone = browser.get("/console/charts?span=24h&channel=people")
    assert set(_DATA.findall(alone.get_data(as_text=True))) == set(CHARTS)


@pytest.mark.parametrize(
    ("query", "named"),
    [("span=1y", "1y"), ("channel=nowhere", "nowhere"), ("span=%00", "span"), ("channel=%00%ff", "channel")],
)
def test_an_address_that_makes_no_sense_says_which_part_and_leads_out_of_it(
    working: World, query: str, named: str
) -> None:
    answer = signed_in(working, Role.VIEWER).get(f"/console/?{query}")
    assert answer.status_code == 400
    assert named in text_of(answer)
    assert 'href="/console/' in answer.get_data(as_text=True)


def test_a_live_refresh_leaves_the_charts_alone_and_is_nothing_when_nothing_changed(working: World) -> None:
    an_hour_of(working)
    browser = signed_in(working, Role.VIEWER)
    first = browser.get("/console/", headers={"X-Refresh": "1"})
    page = first.get_data(as_text=True)
    assert "<figure" not in page
    assert '<section id="charts" data-keep' in page
    headers = {"X-Refresh": "1", "If-None-Match": first.headers["ETag"]}
    assert browser.get("/console/", headers=headers).status_code == 304


def test_a_refresh_costs_two_statements(working: World, monkeypatch: pytest.MonkeyPatch) -> None:
    database = working.database
    browser = signed_in(working, Role.VIEWER)
    browser.get("/console/")
    asked: list[str] = []
    for name in ("look", "transaction", "_at_once"):
        really = getattr(database, name)

        def counted(*arguments: object, really: Callable[..., object] = really, **named: object) -> object:
            asked.append(really.__name__)
            return really(*arguments, **named)

        monkeypatch.setattr(database, name, counted)
    assert browser.get("/console/", headers={"X-Refresh": "1"}).status_code == 200
    assert asked == ["_at_once", "look"]


def test_workers_are_shown_with_their_last_sign_and_what_they_say(working: World) -> None:
    beat(working, "relay", seconds_ago=90)
    working.execute('UPDATE heartbeats SET host = :host, state = \'{"broker": "ready"}\'', host=NAUGHTY)
    answer = signed_in(working, Role.VIEWER).get("/console/")
    said = text_of(answer)
    assert "relay ✕ gone 1 min ago" in said
    assert "consumer ● ok" in said
    assert "broker: ready" in said
    assert NAUGHTY in said


def test_nothing_in_the_page_needs_more_than_the_policy_allows(working: World) -> None:
    an_hour_of(working)
    page = signed_in(working, Role.VIEWER).get("/console/").get_data(as_text=True)
    assert not re.search(r"\sstyle=|<style|\son\w+=|javascript:", page)
    inline = re.findall(r"<script(?![^>]*\ssrc=)([^>]*)>", page)
    assert set(inline) == {' type="application/json"'}
