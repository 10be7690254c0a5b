"""The tests of this package would notice what must not happen."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from tests.browser.installation import Installation
from tests.browser.watched import Watched


@pytest.mark.parametrize(
    ("page", "policy", "noticed"),
    [
        ("<script>alert(1)</script>", "", "dialog: 1"),
        ("<script>alert(1)</script>", "script-src 'self'", "CSP violation: script-src"),
        ("<p style='color: red'>", "style-src 'self'", "CSP violation: style-src"),
        ("<script>nobody.said()</script>", "", "script error: nobody is not defined"),
        ("<img src='http://evil.example/pixel'>", "", "a call to somebody else: http://evil.example/pixel"),
    ],
    ids=["dialog", "script", "style", "error", "elsewhere"],
)
def test_what_must_not_happen_on_a_page_is_noticed(
    browser: Browser, running: Installation, page: str, policy: str, noticed: str
) -> None:
    window = Watched(browser.new_context(), running)
    address = running.url("/console/spoiled")
    headers = {"Content-Type": "text/html", "Content-Security-Policy": policy}
    window.context.route("http://evil.example/**", lambda route: route.abort())
    window.context.route(address, lambda route: route.fulfill(body=page, headers=headers))
    window.page.goto(address)
    wrong = window.wrong()
    window.context.close()
    assert any(noticed in each for each in wrong), wrong
