"""What holds on every page: it can be used by everybody, and it fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Page

from tests.browser.conftest import Open
from tests.browser.installation import Installation
from tests.browser.pages import PAGES, every_page

_SERIOUS = ("serious", "critical")
#: What the page is wider than the window by; boxes that scroll for themselves do not count.
#: What is folded away is looked at as well, but for the numbers of charts: hundreds of cells that are all alike.
_UNFOLD = "document.querySelectorAll('main details:not([data-table])').forEach((each) => { each.open = true; })"
_OVERHANG = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="package")
def seen(running: Installation) -> Mapping[str, Any]:
    """A request whose page has much to show; every list has a row because of it."""
    return running.dead_request("The lift in Elm Street 4 stands still, with nobody in it.")


def show(page: Page, path: str, running: Installation) -> None:
    page.goto(running.url(f"/console{path}"))
    page.locator("main h1").wait_for()


def barriers(page: Page, *rules: str) -> list[str]:
    """What axe finds serious, by all of its rules or by some."""
    only = {"runOnly": {"type": "rule", "values": list(rules)}} if rules else {}
    found = Axe().run(page, options=only).response["violations"]
    return [
        f"{each['id']}: {each['help']} at {[node['target'] for node in each['nodes']][:3]}"
        for each in found
        if each["impact"] in _SERIOUS
    ]


@pytest.mark.parametrize(("colours", "rules"), [("light", ()), ("dark", ("color-contrast",))], ids=["light", "dark"])
def test_no_page_has_a_serious_barrier(
    open_window: Open, running: Installation, seen: Mapping[str, Any], colours: str, rules: tuple[str, ...]
) -> None:
    window = open_window(color_scheme=colours)
    show(window.page, "/sign-in", running)
    found = {"sign-in": barriers(window.page, *rules)}
    page = window.sign_in()
    for name, path in every_page(seen).items():
        show(page, path, running)
        page.evaluate(_UNFOLD)
        found[name] = barriers(page, *rules)
    assert {name: each for name, each in found.items() if each} == {}


@pytest.mark.parametrize("name", PAGES)
def test_every_page_says_where_one_is(open_window: Open, running: Installation, name: str) -> None:
    page = open_window().sign_in()
    show(page, PAGES[name], running)
    assert page.locator("main h1").count() == 1
    assert page.title().endswith(" · assistance")
    assert page.locator("nav [aria-current=page]").count() == 1
