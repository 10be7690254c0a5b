"""What the console's script does: it keeps a page fresh without disturbing who reads it, and knows keys."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.installation import Installation
from tests.browser.watched import Watched

ROWS = "tbody[data-rows] > tr"


def letters_of(running: Installation, window: Watched, topic: str, number: int) -> Page:
    """The list of dead letters of one topic that came from now on, live."""
    (now,) = running.rows("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US') AS at")
    for _ in range(number):
        running.dead_request(f"A letter of {topic}", topic)
    return window.open(f"/dead?view=rows&topic={topic}&since={now.at}Z")


def test_new_rows_wait_until_they_are_asked_for_and_nothing_moves_meanwhile(
    running: Installation, window: Watched
) -> None:
    page = letters_of(running, window, "repairs", 3)
    expect(page.locator(ROWS)).to_have_count(3)
    page.locator(ROWS).nth(1).get_by_role("checkbox").check()
    page.locator("summary", has_text="Replay selected").click()
    why = page.get_by_label("Why").locator("visible=true")
    why.fill("half a sen")
    before = page.locator(ROWS).evaluate_all("rows => rows.map(row => row.dataset.id)")
    running.dead_request("One more", "repairs")
    show = page.get_by_role("button", name=re.compile("^1 new . show$"))
    expect(show).to_be_visible(timeout=30_000)
    assert page.locator(ROWS).evaluate_all("rows => rows.map(row => row.dataset.id)") == before
    expect(page.locator(ROWS).nth(1).get_by_role("checkbox")).to_be_checked()
    expect(why).to_have_value("half a sen")
    expect(why).to_be_focused()
    show.click()
    expect(page.locator(ROWS)).to_have_count(4)
    expect(show).to_have_count(0)
    expect(why).to_have_value("half a sen")
    assert page.locator(ROWS).evaluate_all("rows => rows.map(row => row.dataset.id)")[1:] == before


def test_a_page_that_cannot_be_refreshed_says_since_when_and_recovers(window: Watched) -> None:
    page = window.open("/operations")
    window.expects("Failed to load resource|net::ERR")
    page.context.set_offline(True)
    banner = page.locator("#banner")
    expect(banner).to_contain_text("Not updated since", timeout=30_000)
    expect(page.locator("main")).to_have_class("container-fluid stale")
    page.context.set_offline(False)
    expect(banner).to_be_hidden(timeout=30_000)


def test_who_is_signed_out_elsewhere_is_told_so_on_the_open_page(running: Installation, open_window: Open) -> None:
    window = open_window()
    window.sign_in(name="somebody-else")
    page = window.open("/operations")
    window.expects("401")
    with running.database.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM console_sessions WHERE operator = 'somebody-else'")
    link = page.get_by_role("link", name="Sign in again")
    expect(link).to_be_visible(timeout=30_000)
    link.click()
    page.wait_for_url("**/console/sign-in?next=%2Fconsole%2Foperations")


def test_the_refresh_can_be_paused_and_stays_so(window: Watched) -> None:
    page = window.open("/operations")
    interval = page.get_by_label("Refresh this page")
    expect(interval).to_have_value("2")
    page.keyboard.press("p")
    expect(interval).to_have_value("0")
    page.reload()
    expect(interval).to_have_value("0")
    with page.expect_request(lambda call: call.headers.get("x-refresh") == "1"):
        page.keyboard.press("p")
    expect(interval).to_have_value("2")


def test_a_page_is_used_with_keys_alone(running: Installation, window: Watched) -> None:
    page = letters_of(running, window, "alarms", 3)
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.locator(ROWS).nth(1)).to_be_focused()
    page.keyboard.press("x")
    expect(page.locator(ROWS).nth(1).get_by_role("checkbox")).to_be_checked()
    page.keyboard.press("j")
    page.keyboard.press("Shift+X")
    expect(page.locator("input[data-select]:checked")).to_have_count(2)
    page.keyboard.press("*")
    expect(page.locator("input[data-select]:checked")).to_have_count(3)
    page.keyboard.press("r")
    opened = page.locator("details.confirm[open]")
    expect(opened).to_have_count(1)
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(opened).to_have_count(0)
    page.keyboard.press("/")
    expect(page.locator("#find")).to_be_focused()
    page.keyboard.type("gj?")
    expect(page.locator("#find")).to_have_value("gj?")
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("a")
    page.wait_for_url("**/console/operations")


def test_keys_are_explained_and_can_be_switched_off(window: Watched) -> None:
    page = window.open("/operations")
    page.keyboard.press("?")
    help_window = page.get_by_role("dialog", name="Keys")
    expect(help_window).to_be_visible()
    help_window.get_by_role("switch", name="Single keys are on").uncheck()
    page.keyboard.press("Escape")
    expect(help_window).to_be_hidden()
    page.keyboard.press("?")
    expect(help_window).to_be_hidden()
    page.reload()
    page.keyboard.press("?")
    expect(help_window).to_be_hidden()
    page.get_by_role("button", name="Keys").click()
    expect(help_window).to_be_visible()


def test_times_are_shown_as_people_want_them(window: Watched) -> None:
    page = window.open("/operations")
    read_at = page.locator(".read-at time")
    expect(read_at).to_contain_text("ago")
    page.get_by_label("Show times").select_option("utc")
    expect(read_at).to_contain_text("UTC")
    page.reload()
    expect(read_at).to_contain_text("UTC")
