"""How every page looks: on a telephone, on a tablet and on a desk."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.conftest import Busy, Open
from tests.browser.pages import every_page

#: What the page is wider than the window by; boxes that scroll for themselves do not count.
_OVERHANG = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.mark.parametrize("width", [320, 768, 1440])
def test_every_page_fits_into_the_window(open_window: Open, busy: Busy, pictures: Path, width: int) -> None:
    running, failed = busy
    window = open_window(running, width=width, timezone_id="UTC")
    window.sign_in()
    overhanging = {}
    for name, path in every_page(failed).items():
        page = window.open(path)
        page.locator("main h1").wait_for()
        page.screenshot(path=pictures / f"{name}-{width}.png", full_page=True)
        overhang = page.evaluate(_OVERHANG)
        if overhang > 0:
            overhanging[name] = overhang
    assert overhanging == {}
