"""What holds on every page: everybody can use it, and it says where one is."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Page

from tests.browser.conftest import Busy, Open
from tests.browser.pages import PAGES, every_page

_SERIOUS = ("serious", "critical")
#: What is folded away is looked at as well, but for the numbers of charts: hundreds of cells that are all alike.
_UNFOLD = "document.querySelectorAll('main details:not([data-table])').forEach((each) => { each.open = true; })"


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
def test_no_page_has_a_serious_barrier(open_window: Open, busy: Busy, colours: str, rules: tuple[str, ...]) -> None:
    running, failed = busy
    window = open_window(running, color_scheme=colours)
    found = {"sign-in": barriers(window.open("/sign-in"), *rules)}
    window.sign_in()
    for name, path in every_page(failed).items():
        page = window.open(path)
        page.evaluate(_UNFOLD)
        found[name] = barriers(page, *rules)
    assert {name: each for name, each in found.items() if each} == {}


def test_every_page_says_where_one_is(open_window: Open, busy: Busy) -> None:
    window = open_window(busy[0])
    window.sign_in()
    for name, path in PAGES.items():
        page = window.open(path)
        assert page.locator("main h1").count() == 1, name
        assert page.title().endswith(" · assistance"), name
        assert page.locator("nav [aria-current=page]").count() == 1, name
