"""The charts of the overview stay as their reader left them, and newer numbers come by themselves."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.installation import Installation
from tests.browser.test_channels_in_trouble import write_history
from tests.browser.watched import Watched

FLOW = "figure[data-chart=flow]"


def test_charts_are_drawn_once_survive_the_refresh_of_the_page_and_get_newer_numbers_each_minute(
    window: Watched, running: Installation
) -> None:
    write_history(running, 1)
    page = window.page
    page.clock.install()
    page.goto(running.url("/console/?span=1h"))
    drawing, said = page.locator(f"{FLOW} canvas"), page.locator(f"{FLOW} figcaption")
    expect(drawing).to_have_count(1)
    before = said.text_content() or ""
    expect(said).to_have_text(before)
    table = page.locator(f"{FLOW} details")
    expect(table).not_to_have_attribute("open", "")
    table.locator("summary").click()
    expect(table.locator("tbody tr").first).to_be_visible()
    with page.expect_response(lambda answer: answer.request.headers.get("x-refresh") == "1" and answer.ok):
        page.clock.fast_forward(3_000)
    expect(drawing).to_have_count(1)
    expect(table).to_have_attribute("open", "")
    running.dead_request("The chart has to show this one.", "repairs")
    with running.database.transaction() as connection:
        connection.exec_driver_sql(
            "UPDATE dead_letters SET created_at = date_trunc('minute', now()) - interval '30 s'"
            " WHERE created_at >= date_trunc('minute', now())"
        )
    write_history(running, 1)
    with page.expect_response(lambda answer: "/console/charts?span=1h" in answer.url and answer.ok):
        page.clock.fast_forward(61_000)
    expect(said).not_to_have_text(before)
    expect(drawing).to_have_count(1)
    expect(table).to_have_attribute("open", "")
