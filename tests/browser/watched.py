"""A page of the browser that remembers whatever must not happen on any page."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Page, Request

from assistance.domain.operator import Role
from tests.browser.installation import Installation

#: Chromium says the same on its console; this says it also where a page would silence that.
_TELL_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`CSP violation: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""
#: The quickest that a person can choose; a test does not wait longer for a page that comes by itself.
_REFRESH_QUICKLY = """
if (localStorage.getItem("assistance.interval") === null) localStorage.setItem("assistance.interval", "2");
"""


class Watched:
    """Somebody's browser window: `page`, and what went wrong on it."""

    def __init__(self, context: BrowserContext, running: Installation) -> None:
        self._running = running
        self._wrong: list[str] = []
        self._expected: list[str] = []
        self.context = context
        context.add_init_script(_TELL_VIOLATIONS)
        context.add_init_script(_REFRESH_QUICKLY)
        self.page = self.watch(context.new_page())

    def watch(self, page: Page) -> Page:
        page.set_default_timeout(60_000)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self._wrong.append(f"script error: {error}"))
        page.on("dialog", self._asked)
        page.on("request", self._called)
        return page

    def sign_in(self, role: Role = Role.OPERATOR, name: str = "olga") -> Page:
        """By a one-time link, as a person would."""
        self.page.goto(self._running.link(role, name))
        self.page.get_by_role("button", name="Open the console").click()
        self.page.wait_for_url("**/console/")
        return self.page

    def open(self, path: str) -> Page:
        """A page of the console."""
        self.page.goto(self._running.url(f"/console{path}"))
        return self.page

    def expects(self, pattern: str) -> None:
        """Something that goes wrong in this test because it is meant to."""
        self._expected.append(pattern)

    def wrong(self) -> list[str]:
        """What went wrong and was not meant to."""
        return [each for each in self._wrong if not any(re.search(pattern, each) for pattern in self._expected)]

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._wrong.append(f"console {message.type}: {message.text} ({message.location.get('url', '')})")

    def _asked(self, dialog: Dialog) -> None:
        self._wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _called(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.port != self._running.http_port:
            self._wrong.append(f"a call to somebody else: {request.url}")
