"""Who gets in, and out again."""

from __future__ import annotations

from playwright.sync_api import expect

from assistance.domain.operator import Role
from tests.browser.conftest import Open
from tests.browser.installation import Installation


def test_a_one_time_link_opens_the_console_once(open_window: Open, running: Installation) -> None:
    link = running.link(Role.OPERATOR, "olga")
    first, second = open_window(), open_window()
    second.expects("status of 401")
    for window in (first, second):
        window.page.goto(link)
        window.page.get_by_role("button", name="Open the console").click()
    expect(first.page.get_by_role("link", name="Requests", exact=True)).to_be_visible()
    expect(second.page.get_by_role("alert")).to_contain_text("was used before")


def test_whoever_signs_out_is_out_and_is_asked_to_sign_in_for_every_page(open_window: Open) -> None:
    window = open_window()
    page = window.sign_in()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    window.open("/requests?status=delivered")
    assert page.url.endswith("/console/sign-in?next=%2Fconsole%2Frequests%3Fstatus%3Ddelivered")
