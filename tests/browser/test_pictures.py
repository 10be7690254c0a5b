"""How every page looks: on a telephone, on a tablet and on a desk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.browser.conftest import installation_of
from tests.browser.installation import Installation
from tests.browser.pages import every_page
from tests.browser.showcase import fill
from tests.browser.watched import Watched
from tests.servers import Server, SharedServers

#: What the page is wider than the window by; boxes that scroll for themselves do not count.
_OVERHANG = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def busy(
    servers: SharedServers,
    postgres_server: Server,
    unique_name: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Installation, Mapping[str, Any]]]:
    """An installation of its own, in which no other test leaves anything; and its request that failed."""
    with installation_of(servers, postgres_server, unique_name(), tmp_path_factory.mktemp("busy")) as installation:
        yield installation, fill(installation)


@pytest.mark.parametrize("width", [320, 768, 1440])
def test_every_page_fits_into_the_window(
    browser: Browser, busy: tuple[Installation, Mapping[str, Any]], pictures: Path, width: int
) -> None:
    running, failed = busy
    context = browser.new_context(viewport={"width": width, "height": 900}, locale="en", timezone_id="UTC")
    window = Watched(context, running)
    window.sign_in()
    overhanging = {}
    for name, path in every_page(failed).items():
        page = window.open(path)
        page.locator("main h1").wait_for()
        page.screenshot(path=pictures / f"{name}-{width}.png", full_page=True)
        overhang = page.evaluate(_OVERHANG)
        if overhang > 0:
            overhanging[name] = overhang
    wrong = window.wrong()
    context.close()
    assert overhanging == {}
    assert wrong == []
