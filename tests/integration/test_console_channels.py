"""Channels and routes in the console: what is shown of them, and what is done to them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from assistance.configuration import Configuration, load_configuration
from assistance.deliveries.channel_states import PauseCause, pause, states_of
from assistance.domain.operator import Role
from tests.builders import RECEIPT, World
from tests.console_tools import Browser, console_app, desk_of, key_for, signed_in, text_of
from tests.integration.overview_tools import NAUGHTY, hold, open_breaker

PEOPLE = "/console/channels/people"
FILE = """
[channels.sales-team]
type = "slack"
token = "env:SALES_TOKEN"
channel = "C024BE91L"
pace = "1/s"

[channels.hook]
type = "webhook"
url = "file:/nowhere/hook-url"
secret = "env:HOOK_SECRET"

[topics.sales]
to = ["sales-team"]
fallback = [{to = ["hook"], after = "2m"}]
"""


def is_paused(world: World, channel: str = "people") -> bool:
    with world.database.transaction() as connection:
        return states_of(connection, [channel])[channel].paused_at is not None


@pytest.fixture
def configured(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world with a configuration file, of whose secrets this process knows one."""
    monkeypatch.setenv("SALES_TOKEN", "xoxb-very-secret")
    (tmp_path / "assistance.toml").write_text(FILE, encoding="utf-8")
    configuration: Configuration = load_configuration(tmp_path / "assistance.toml")
    world.configuration = configuration
    return world


def test_the_routes_are_a_table_from_topic_to_destination(configured: World) -> None:
    said = text_of(signed_in(configured, Role.VIEWER).get("/console/channels"))
    assert "sales at once sales-team channel C024BE91L" in said
    assert "sales after 2 min without a receipt, or when the step before ended dead hook unknown here" in said


def test_a_secret_is_never_shown_only_where_it_comes_from_and_whether_it_is_there(configured: World) -> None:
    browser = signed_in(configured, Role.VIEWER)
    pages = [browser.get(f"/console/channels{path}") for path in ("", "/sales-team", "/hook", "/callbacks")]
    assert all(page.status_code == 200 for page in pages)
    assert not any("very-secret" in page.get_data(as_text=True) for page in pages)
    assert "token env:SALES_TOKEN ● ok is set" in text_of(pages[1])
    assert "secret env:HOOK_SECRET ▲ late the environment variable HOOK_SECRET is not set" in text_of(pages[2])
    assert "url file:/nowhere/hook-url ▲ late the file /nowhere/hook-url cannot be read" in text_of(pages[2])


def test_a_channel_shows_its_pace_its_schedule_and_who_tells_it(configured: World) -> None:
    said = text_of(signed_in(configured, Role.VIEWER).get("/console/channels/sales-team"))
    assert "Pace 1 a second to each destination" in said
    assert "Retries after 1 s, 5 s, 15 s, 1 min, 3 min, 10 min, 30 min, 1 h, 2 h, 4 h; the last one repeats" in said
    assert "Gives up 1 d after the first try" in said
    assert "Told by sales" in said


def test_what_waits_is_shown_by_what_it_waits_for_and_when_something_was_last_delivered(world: World) -> None:
    world.deliver(world.submit().id, RECEIPT)
    world.submit()
    hold(world, world.submit().ref)
    said = text_of(signed_in(world, Role.VIEWER).get(PEOPLE))
    assert "Ready 1 Sending 0 Waiting for a retry 0 To be looked up 0 Held 1" in said
    assert re.search(r"Last success (just now|\d+ s ago)", said)
    listed = text_of(signed_in(world, Role.VIEWER, name="another").get("/console/channels"))
    assert "people scripted ● delivers 1 0 0 0 1" in listed


def test_a_channel_that_is_out_says_why_since_when_and_when_it_is_probed(world: World) -> None:
    world.database.run(lambda c: pause(c, "people", cause=PauseCause.CONFIGURATION, reason=NAUGHTY, by="a check"))
    open_breaker(world, "people", "3 calls in a row were not answered.")
    answer = signed_in(world, Role.VIEWER).get(PEOPLE)
    said = text_of(answer)
    assert "by a check , because of its configuration: a check ends this pause" in said
    assert NAUGHTY in said
    assert NAUGHTY not in answer.get_data(as_text=True)
    assert "Its circuit breaker is open since" in said
    assert "the next probe may begin in" in said
    assert "3 calls in a row were not answered." in said


def test_an_operator_pauses_a_channel_with_a_reason_and_resumes_it_and_both_are_in_the_audit_log(world: World) -> None:
    browser = signed_in(world, name="ada")
    answer = browser.act(f"{PEOPLE}/pause", {"reason": " The provider moves. "}, page=PEOPLE)
    assert (answer.status_code, answer.headers["Location"]) == (303, PEOPLE)
    said = text_of(browser.get(PEOPLE))
    assert "people is paused." in said
    assert "The provider moves." in said
    assert is_paused(world)
    again = browser.act(f"{PEOPLE}/pause", {"reason": "Another one."}, page=PEOPLE)
    assert again.status_code == 303
    assert "its reason stays as it was" in text_of(browser.get(PEOPLE))
    browser.act(f"{PEOPLE}/resume", page=PEOPLE)
    assert "people is resumed." in text_of(browser.get(PEOPLE))
    assert not is_paused(world)
    written = world.rows("SELECT actor, via, action, subject, reason, request_id FROM audit ORDER BY id")
    acts = [(row.actor, row.via, row.action, row.subject, row.reason) for row in written if row.subject == "people"]
    assert acts == [
        ("ada", "console", "pause", "people", "The provider moves."),
        ("ada", "console", "resume", "people", None),
    ]
    assert all(row.request_id for row in written)


def test_a_pause_without_a_reason_is_refused(world: World) -> None:
    answer = signed_in(world).act(f"{PEOPLE}/pause", {"reason": "  "}, page=PEOPLE)
    assert answer.status_code == 400
    assert "A pause needs a reason" in text_of(answer)
    assert not is_paused(world)


def test_a_test_message_is_a_request_of_its_own_whose_page_opens(world: World) -> None:
    browser = signed_in(world, name="ada")
    answer = browser.act(f"{PEOPLE}/test", page=PEOPLE)
    sent = world.rows("SELECT id, description FROM requests")[0]
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/console/requests/{sent.id}")
    assert sent.description == "This is a test of people, sent by ada. Nobody has to do anything."
    assert world.count("outbox", "channel = 'people'") == 1


@pytest.mark.parametrize("act", ["pause", "resume", "test"])
def test_a_viewer_sees_no_way_to_act_and_is_refused(world: World, act: str) -> None:
    browser = signed_in(world, Role.VIEWER)
    page = browser.get(PEOPLE).get_data(as_text=True)
    assert f"{PEOPLE}/{act}" not in page
    answer = browser.act(f"{PEOPLE}/{act}", {"reason": "for fun"}, page=PEOPLE)
    assert answer.status_code == 403
    assert not is_paused(world)
    assert world.count("requests") == 0


@pytest.mark.parametrize("act", ["pause", "resume", "test"])
def test_a_channel_that_does_not_exist_is_a_page_that_says_so(world: World, act: str) -> None:
    browser = signed_in(world)
    assert browser.get("/console/channels/nowhere").status_code == 404
    answer = browser.act(f"/console/channels/nowhere/{act}", {"reason": "for fun"}, page=PEOPLE)
    assert answer.status_code == 404
    assert "There is no channel 'nowhere'." in text_of(answer)


def test_a_channel_that_left_the_file_is_shown_while_something_of_it_is_open(worlds: Callable[..., World]) -> None:
    before = worlds({"help": ("people",), "old": ("gone",)})
    before.submit("old")
    after = worlds({"help": ("people",)})
    browser = signed_in(after)
    assert "gone not in the file ✕ gone" in text_of(browser.get("/console/channels"))
    page = browser.get("/console/channels/gone")
    assert "This channel left the configuration file while deliveries are open" in text_of(page)
    assert "/console/channels/gone/pause" not in page.get_data(as_text=True)


def test_callbacks_can_be_paused_but_not_tested(configured: World) -> None:
    browser = Browser(console_app(desk_of(configured)))
    browser.sign_in(key_for(configured, Role.OPERATOR))
    page = browser.get("/console/channels/callbacks").get_data(as_text=True)
    assert "/console/channels/callbacks/pause" in page
    assert "/console/channels/callbacks/test" not in page
    answer = browser.act("/console/channels/callbacks/test", page="/console/channels/callbacks")
    assert answer.status_code == 400
    assert "Callbacks go to machines" in text_of(answer)
