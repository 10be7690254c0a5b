"""One browser and one installation for all tests of this package, and a window of its own for each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from assistance.embedded.databases import create_database, drop_database
from tests.browser.installation import Installation
from tests.browser.showcase import fill
from tests.browser.watched import Watched
from tests.servers import Server, SharedServers
from tests.servers.chromium import FLAGS, Chromium
from tests.servers.shared import database_url as url_of_database

Open = Callable[..., Watched]
Busy = tuple[Installation, Mapping[str, Any]]


# Of the package, not of the session: while the driver of the browser lives, its event loop counts as running in this
# thread, and nobody else's tests could start one.
@pytest.fixture(scope="package")
def browser(chromium: Chromium) -> Iterator[Browser]:
    expect.set_options(timeout=40_000)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=chromium.program, args=FLAGS, env=dict(chromium.environment())
        )
        yield launched
        launched.close()


@contextmanager
def installation_of(servers: SharedServers, server: Server, name: str, folder: Path) -> Iterator[Installation]:
    """An installation over a new database of this name."""
    create_database(server.url, name, template=servers.template(server))
    with Installation(folder, url_of_database(server.url, name)) as installation:
        yield installation
    drop_database(server.url, name)


@pytest.fixture(scope="package")
def running(
    servers: SharedServers,
    postgres_server: Server,
    unique_name: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Installation]:
    """An installation that all tests of the package share: each looks for what it made itself."""
    with installation_of(servers, postgres_server, unique_name(), tmp_path_factory.mktemp("console")) as installation:
        yield installation


@pytest.fixture(scope="package")
def busy(
    servers: SharedServers,
    postgres_server: Server,
    unique_name: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Busy]:
    """An installation in which no test leaves anything, for tests that look only; and its request that failed."""
    with installation_of(servers, postgres_server, unique_name(), tmp_path_factory.mktemp("busy")) as installation:
        yield installation, fill(installation)


@pytest.fixture
def open_window(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens windows that share nothing; after the test none may have shown what must not happen.

    They look at the common installation, unless another is named.
    """
    opened: list[Watched] = []

    def make(of: Installation | None = None, *, width: int = 1280, **settings: Any) -> Watched:
        context = browser.new_context(viewport={"width": width, "height": 900}, locale="en", **settings)
        opened.append(Watched(context, of or request.getfixturevalue("running")))
        return opened[-1]

    yield make
    wrong = [each for window in opened for each in window.wrong()]
    for window in opened:
        window.context.close()
    assert wrong == []


@pytest.fixture
def window(open_window: Open) -> Watched:
    """A window of a signed-in operator."""
    watched = open_window()
    watched.sign_in()
    return watched


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where pictures go: to the folder of ASSISTANCE_TEST_PICTURES, if somebody wants to keep them."""
    return Path(os.environ.get("ASSISTANCE_TEST_PICTURES", tmp_path))
