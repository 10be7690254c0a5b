"""What the person on call does: find what is wrong, see why, mend it, and see it mended."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from assistance.domain.operator import Role
from tests.browser.conftest import Open
from tests.browser.installation import Installation, wait_until
from tests.browser.watched import Watched

_PROGRESS = re.compile(r"([\d,]+) of 1,000")


def find(page: Page, ref: str) -> None:
    """By the field that is on every page."""
    page.get_by_label("Find a request").fill(ref)
    page.get_by_label("Find a request").press("Enter")
    page.wait_for_load_state()
    if page.locator("main h1").inner_text().startswith("Requests"):
        page.get_by_role("link", name=ref).click()
    expect(page.locator("main h1")).to_contain_text(ref)


def confirm(page: Page, summary: str, button: str, *, why: str | None = None) -> None:
    """Open what asks before it acts, and say yes."""
    page.get_by_role("button", name=summary, exact=True).click()
    panel = page.locator("details.confirm[open]")
    if why is not None:
        panel.get_by_label("Why").fill(why)
    panel.get_by_role("button", name=button, exact=True).last.click()
    page.wait_for_load_state()


def test_a_failed_request_is_found_by_its_ref_understood_replayed_and_seen_to_arrive(
    window: Watched, running: Installation
) -> None:
    asked = running.dead_request("The boiler of house 12 is cold.")
    page = window.page
    find(page, asked["ref"])
    expect(page.locator("main h1 .state")).to_have_text(re.compile("undeliverable"))
    expect(page.get_by_role("heading", name="Timeline").locator("..")).to_contain_text("422")
    confirm(page, "Replay", "Replay", why="Their server is back.")
    # Nobody reloads: the page comes by it itself.
    expect(page.locator("main h1 .state")).to_have_text(re.compile("delivered"))
    assert any(asked["ref"] in str(message) for message in running.hook.received)
    page.goto(running.url("/console/audit?action=replay"))
    expect(page.locator("main table")).to_contain_text("Their server is back.")


@pytest.mark.timeout(240)  # a thousand messages really go out
def test_a_thousand_dead_letters_are_replayed_as_a_job_that_is_cancelled_at_half_and_resumed(
    window: Watched, running: Installation
) -> None:
    now = running.now()
    running.dead_requests("A smoke detector chirps.", "alarms", 1000)
    page = window.open(f"/dead?channel=smoke-alarms&since={now}")
    page.get_by_role("button", name="Replay all 1,000", exact=True).click()
    panel = page.locator("details.confirm[open]")
    panel.get_by_label("How many a second").fill("200")
    panel.get_by_role("button", name="Replay 1,000", exact=True).click()
    page.wait_for_url("**/console/operations/*")
    expect(page.locator("main h1")).to_have_text("Replay 1,000 dead letters")

    def through() -> int:
        found = _PROGRESS.search(page.locator("main").inner_text())
        assert found is not None
        return int(found[1].replace(",", ""))

    wait_until(lambda: through() >= 350, "the page shows by itself how far it is", seconds=60)
    confirm(page, "Cancel", "Cancel the operation")
    expect(page.locator("main .state-cancelled").first).to_be_visible()
    stopped = through()
    assert 350 <= stopped < 1000, "it was cancelled on its way"
    page.reload()
    assert through() == stopped, "a cancelled operation stands still"
    confirm(page, "Resume", "Resume the operation")
    expect(page.locator("main .state-done").first).to_be_visible(timeout=60_000)
    assert through() == 1000
    unfinished = "SELECT 1 FROM requests WHERE description LIKE '%chirps%' AND status <> 'delivered' LIMIT 1"
    wait_until(lambda: not running.rows(unfinished), "all of them arrived", seconds=60)
    received = [message["data"]["description"] for message in running.hook.received if "chirps" in str(message)]
    assert len(received) == len(set(received)) == 1000, "each arrived once"


def test_the_same_is_done_with_the_keyboard_alone(window: Watched, running: Installation) -> None:
    asked = running.dead_request("The barrier of the car park is up.")
    page = window.open("/operations")
    page.keyboard.press("/")
    page.keyboard.type(asked["ref"])
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/requests**")
    if page.url.split("?")[0].endswith("/requests"):
        page.keyboard.press("j")
        page.keyboard.press("Enter")
    expect(page.locator("main h1")).to_contain_text(asked["ref"])
    page.keyboard.press("r")
    page.keyboard.type("It was repaired.")
    page.keyboard.press("Enter")
    expect(page.locator("main h1 .state")).to_have_text(re.compile("delivered"))


def test_the_same_is_done_in_a_browser_without_scripts(open_window: Open, running: Installation) -> None:
    asked = running.dead_request("The lights of the tunnel are off.")
    page = open_window(java_script_enabled=False).sign_in()
    find(page, asked["ref"])
    confirm(page, "Replay", "Replay")
    running.ended_as(asked["id"], "delivered")
    page.reload()
    expect(page.locator("main h1 .state")).to_have_text(re.compile("delivered"))


def test_two_operators_at_once_do_a_thing_once_and_the_second_is_told(open_window: Open, running: Installation) -> None:
    asked = running.dead_request("The gate of the car park is stuck.")
    olga, otto = open_window(), open_window()
    pages = olga.sign_in(Role.OPERATOR, "olga"), otto.sign_in(Role.OPERATOR, "otto")
    otto.expects("status of 409")
    for page in pages:
        page.goto(running.url(f"/console/requests/{asked['id']}"))
        page.get_by_role("button", name="Replay", exact=True).click()
    for page in pages:
        page.locator("details.confirm[open] button[type=submit]").click()
        page.wait_for_load_state()
    running.ended_as(asked["id"], "delivered")
    said = pages[1].locator("body").inner_text()
    assert re.search(r"already|no open|resolved|nothing", said, re.IGNORECASE), said
    letters = running.rows(
        "SELECT l.resolved_by FROM dead_letters l JOIN deliveries d ON d.id = l.delivery_id WHERE d.request_id = :id",
        id=asked["id"],
    )
    assert [letter.resolved_by for letter in letters] == ["olga"]
    times = [message for message in running.hook.received if asked["ref"] in str(message)]
    assert len(times) == 1


def test_a_viewer_sees_everything_and_may_do_nothing(open_window: Open, running: Installation) -> None:
    asked = running.dead_request("The fountain runs over.")
    window = open_window()
    window.expects("status of 403")
    page = window.sign_in(Role.VIEWER, "vera")
    page.goto(running.url(f"/console/requests/{asked['id']}"))
    expect(page.locator("main")).to_contain_text("The fountain runs over.")
    assert page.locator("main form[method=post]").count() == 0
    for path, form in (
        (f"/requests/{asked['id']}/replay", {}),
        ("/channels/field-service/pause", {"reason": "no"}),
        ("/dead/all", {"kind": "replay", "shown": "1", "filter": ""}),
    ):
        page.goto(running.url("/console/"))
        page.evaluate(_POST, [f"/console{path}", form])
        expect(page.locator("main h1")).to_have_text("You may not do this")
    assert running.status_of(asked["id"]) == "undeliverable"
    assert not running.rows("SELECT 1 FROM audit WHERE actor = 'vera' AND action <> 'sign_in'")


#: What a viewer who knows the console could send: a form of the page's own session.
_POST = """
([action, members]) => {
  const form = document.createElement("form");
  form.method = "post";
  form.action = action;
  const token = document.querySelector("input[name=csrf]").value;
  for (const [name, value] of Object.entries({ csrf: token, ...members })) {
    const field = document.createElement("input");
    field.name = name;
    field.value = value;
    form.append(field);
  }
  document.body.append(form);
  form.submit();
}
"""


def test_a_form_with_a_forged_token_does_nothing(window: Watched, running: Installation) -> None:
    asked = running.dead_request("The heating of the greenhouse is off.")
    window.expects("status of 403")
    page = window.page
    for forged in ("", "0" * 64, "é"):
        page.goto(running.url(f"/console/requests/{asked['id']}"))
        page.get_by_role("button", name="Replay", exact=True).click()
        page.evaluate(
            "(value) => document.querySelectorAll('input[name=csrf]').forEach((each) => { each.value = value; })",
            forged,
        )
        page.locator("details.confirm[open] button[type=submit]").click()
        expect(page.locator("main")).to_contain_text("Nothing was done")
    assert running.status_of(asked["id"]) == "undeliverable"


def test_a_page_of_somebody_else_cannot_act_with_my_session(window: Watched, running: Installation) -> None:
    asked = running.dead_request("The sluice does not close.")
    window.expects("status of 403|a call to somebody else")
    page = window.page
    page.goto(running.url(f"/console/requests/{asked['id']}"))
    token = page.locator("input[name=csrf]").first.get_attribute("value")
    action = running.url(f"/console/requests/{asked['id']}/replay")
    # The worst case: the other page even knows my token.
    page.context.route(
        "http://evil.example/",
        lambda route: route.fulfill(
            content_type="text/html",
            body=f'<form method=post action="{action}"><input name=csrf value="{token}"><button>Win</button></form>',
        ),
    )
    page.goto("http://evil.example/")
    page.get_by_role("button", name="Win").click()
    page.wait_for_load_state()
    assert "Nothing was done" in page.locator("body").inner_text()
    assert running.status_of(asked["id"]) == "undeliverable"
