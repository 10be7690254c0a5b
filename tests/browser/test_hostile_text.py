"""Whatever customers, operators and providers write is shown as text, on every page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import pytest

from assistance.domain.operator import Role
from tests.browser.conftest import Open
from tests.browser.installation import Installation
from tests.browser.pages import every_page
from tests.browser.test_acting import confirm
from tests.memory_door import CORPORA
from tests.unit.test_api_corpora import expected_for
from tests.unit.test_api_corpora import texts as collected

#: What is meant for pages like ours; what others collected comes on top, where it is there.
_OWN = (
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    "<img src=x onerror=alert(3)>",
    '"><svg onload=alert(4)>',
    "' autofocus onfocus='alert(5)",
    "javascript:alert(6)",
    '<a href="javascript:alert(7)">look</a>',
    '<iframe srcdoc="<script>parent.alert(8)</script>"></iframe>',
    "<style>* { display: none !important }</style>",
    '<base href="https://evil.example/">',
    '<meta http-equiv=refresh content="0; url=https://evil.example/">',
    '<form action="https://evil.example/"><button>Sign in again</button></form>',
    "</textarea></title></style></noscript></template><b>out</b>",
    "{{ 7 * 7 }} {% include 'x' %} ${7*7} #{7*7}",
    "<!-- --!> <![CDATA[ ]]> &lt;script&gt; &#x3C;b&#x3E;",
    "\u202egnp.exe\u202c left \u2066isolated\u2069 \u200f\u061c",
    "Z\u0351\u032b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324\u031e\u0349algo",
    "<!everyone> <!channel> <@U024BE7LH> @here",
    '=HYPERLINK("https://evil.example","x") +1 -1 @SUM(1)',
)
_LONG_WORD = "W" * 4000
_FULL = 3900
_HAS = "([place, text]) => document.querySelector(place).textContent.includes(text)"
_OVERHANG = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def descriptions() -> Sequence[str]:
    """All of them in few requests: each on a line of its own."""
    lines = [*_OWN, *(collected() if CORPORA.exists() else ())]
    packed: list[list[str]] = [[]]
    for line in lines:
        if expected_for(line) == 202:
            if sum(map(len, packed[-1])) + len(packed[-1]) + len(line) > _FULL:
                packed.append([])
            packed[-1].append(line)
    return ["\n".join(each) for each in packed] + [_LONG_WORD]


@pytest.fixture(scope="package")
def told(running: Installation) -> Sequence[tuple[str, str]]:
    """Requests that say all that, also in their other members: the id of each, and its description."""
    found = []
    for number, text in enumerate(descriptions()):
        line = _OWN[number % len(_OWN)]
        more: dict[str, Any] = {
            "title": line,
            "customer": {"name": line, "email": "ada@example.com"},
            "bot": {"name": line[:60], "reason": line},
            "metadata": {"note": line},
            "conversation": {"id": "c-1", "transcript": [{"from": line[:60], "text": text[:1000]}]},
        }
        asked = running.dead_request(text, **more) if number < 2 else running.post("sales", text, **more)
        found.append((str(asked["id"]), text))
    with running.database.transaction() as connection:
        for column in ("deliveries.last_error_detail", "attempts.detail", "dead_letters.error"):
            table, _, name = column.partition(".")
            connection.exec_driver_sql(
                f"UPDATE {table} SET {name} = %(said)s WHERE {name} IS NOT NULL", {"said": " ".join(_OWN)}
            )
        connection.exec_driver_sql(
            "INSERT INTO saved_views (page, name, query) VALUES ('requests', %(name)s, 'topic=sales')",
            {"name": "<script>alert('view')</script>"},
        )
    return found


def test_every_word_of_a_request_is_shown_as_it_was_said_and_never_run(
    open_window: Open, running: Installation, told: Sequence[tuple[str, str]]
) -> None:
    page = open_window().sign_in()
    for request_id, text in told:
        page.goto(running.url(f"/console/requests/{request_id}"))
        shown = text.replace("\r\n", "\n").replace("\r", "\n")
        assert page.evaluate(_HAS, ["main", shown]), text[:200]
        assert page.evaluate(_OVERHANG) == 0


def test_lists_show_hostile_words_as_text_and_keep_their_shape(
    open_window: Open, running: Installation, told: Sequence[tuple[str, str]]
) -> None:
    window = open_window(width=320)
    page = window.sign_in(Role.ADMIN, "<script>alert('operator')</script>")
    page.goto(running.url("/console/channels/pricing-inbox"))
    confirm(page, "Pause", "Pause", why="<img src=x onerror=alert('reason')>")
    try:
        for path in every_page({"id": told[0][0]}).values():
            page.goto(running.url(f"/console{path}"))
            page.locator("main h1").wait_for()
            assert page.evaluate(_OVERHANG) == 0, path
        page.goto(running.url("/console/audit"))
        assert page.evaluate(_HAS, ["main", "<script>alert('operator')</script>"])
        assert page.evaluate(_HAS, ["main", "<img src=x onerror=alert('reason')>"])
    finally:
        page.goto(running.url("/console/channels/pricing-inbox"))
        confirm(page, "Resume", "Resume")


_PATHS = ("/", "/charts", "/requests", "/dead", "/channels", "/operations", "/audit")
_SENSELESS = (
    ("place", "<script>alert(1)</script>"),
    ("since", "2026-99-99"),
    ("before", "9" * 400),
    ("span", "\u202e'--"),
    ("<script>alert(2)</script>", "x"),
)


def test_an_address_that_makes_no_sense_is_named_and_offered_to_be_cleared(
    open_window: Open, running: Installation
) -> None:
    window = open_window()
    page = window.sign_in()
    window.expects("status of 400")
    refused = {}
    for path in _PATHS:
        for name, value in _SENSELESS:
            address = running.url(f"/console{path}?{quote(name)}={quote(value)}")
            answer = page.request.get(address)
            assert answer.status in (200, 400), address
            if answer.status == 400:
                refused[path] = address
    assert refused.keys() >= {"/requests", "/dead", "/audit"}
    for address in refused.values():
        page.goto(address)
        page.get_by_role("button", name="Clear it").click()
        assert page.locator("main h1").inner_text() != "This cannot be shown"
