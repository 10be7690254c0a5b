"""A channel that stands still: who stopped it, what waits for it, and that it goes on."""

from __future__ import annotations

from datetime import timedelta

from playwright.sync_api import Page, expect
from sqlalchemy import select
from sqlalchemy.sql import func

from assistance.history.roll_up import count
from tests.browser.installation import Installation, wait_until
from tests.browser.test_acting import confirm
from tests.browser.watched import Watched

_UNFINISHED = "SELECT count(*) AS n FROM deliveries WHERE channel = 'pricing-inbox' AND check_at IS NOT NULL"
_MINUTE = timedelta(minutes=1)


def waiting(running: Installation) -> int:
    return int(running.rows(_UNFINISHED)[0].n)


def write_history(running: Installation, minutes_ago: int) -> None:
    """What the conciliation process does when a minute is over; as if that one had ended just now."""
    with running.database.transaction() as connection:
        now = connection.execute(select(func.date_trunc("minute", func.now()))).scalar_one()
        end = now - (minutes_ago - 1) * _MINUTE
        count(connection, end - _MINUTE, end, is_now=True)


def backlog(page: Page, running: Installation) -> list[int]:
    """The rows of the chart's table, the newest first."""
    page.goto(running.url("/console/?channel=pricing-inbox"))
    chart = page.locator("figure[data-chart=backlog]")
    expect(chart.locator("canvas")).to_be_visible()
    table = chart.locator("details")
    table.evaluate("element => { element.open = true; }")
    rows = table.locator("tbody tr").all()
    return [sum(int(cell.inner_text().replace(",", "")) for cell in row.locator("td").all()) for row in rows]


def test_a_paused_channel_is_seen_everywhere_its_backlog_grows_and_drains_when_it_is_resumed(
    window: Watched, running: Installation
) -> None:
    page = window.page
    page.goto(running.url("/console/channels/pricing-inbox"))
    confirm(page, "Pause", "Pause", why="The mail server moves.")
    expect(page.locator("main h1")).to_contain_text("paused")
    expect(page.locator("#health")).to_contain_text("pricing-inbox: paused")
    wait_until(lambda: running.stands_still("pricing-inbox"), "the consumer has heard of it")
    for minutes_ago in (2, 1):
        for number in range(3):
            running.post("pricing", f"What does plan {number} cost?")
        write_history(running, minutes_ago)
    assert waiting(running) == 6
    assert backlog(page, running)[:2] == [6, 3]
    expect(page.locator("figure[data-chart=backlog] figcaption")).to_contain_text("6 unfinished now")
    expect(page.locator("main .problems")).to_contain_text("pricing-inbox")
    page.goto(running.url("/console/channels/pricing-inbox"))
    confirm(page, "Resume", "Resume", why="It has moved.")
    wait_until(lambda: waiting(running) == 0, "the backlog has drained")
    expect(page.locator("#health")).not_to_contain_text("pricing-inbox")
