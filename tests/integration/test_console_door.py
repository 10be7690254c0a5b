"""What every answer of the console has in common, and what it says when something is wrong."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from werkzeug.test import TestResponse

from assistance.console import static_files
from assistance.domain.operator import Role
from assistance.domain.outcome import Rejected, RejectionReason
from assistance.storage.database import Database
from tests.builders import World, eventually
from tests.console_tools import Browser, console_app, desk_of, signed_in, text_of
from tests.servers import ControlledPostgres

PAGE = "/console/operations"
PAGES = (
    "/console/dead",
    "/console/dead?view=rows",
    "/console/dead?resolved=true",
    "/console/operations",
    "/console/audit",
    "/console/sign-in",
)
VENDORED = static_files.FOLDER / "vendor"


def everything(browser: Browser) -> Iterator[tuple[str, TestResponse]]:
    """One answer of each kind."""
    for path in PAGES:
        yield path, browser.get(path)
    yield "refresh", browser.get(PAGE, headers={"X-Refresh": "1"})
    yield "redirect", browser.get("/console")
    yield "static", browser.get(static_files.static("console.js"))
    yield "not found", browser.get("/console/nothing/here")
    yield "wrong method", browser.post("/console/audit", {"csrf": browser.token_on(PAGE)})
    yield "bad filter", browser.get("/console/dead?since=yesterdayish")
    yield "not our form", browser.post("/console/sign-out")
    yield "export", browser.get("/console/audit.csv")


def test_every_answer_forbids_scripts_frames_and_forms_of_others(world: World) -> None:
    browser = signed_in(world)
    for name, answer in everything(browser):
        policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'", name
        assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'", name
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'", name
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff", name
        assert answer.headers["Referrer-Policy"] == "same-origin", name
        assert answer.headers["X-Frame-Options"] == "DENY", name
        assert "X-Request-Id" in answer.headers, name
        assert (answer.headers["Cache-Control"] == "no-store") == (name != "static"), name


def test_no_page_holds_a_script_a_style_or_an_address_of_somebody_else(world: World) -> None:
    browser = signed_in(world)
    for name, answer in everything(browser):
        if answer.mimetype != "text/html":
            continue
        html = answer.text
        assert not re.search(r"<script(?![^>]* src=)", html), name
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=", html), name
        assert not re.search(r'(?:src|href|action)="(?!/|#|\?)', html), name
        assert html.count("<h1") == 1, name
        ids = re.findall(r'\sid="([^"]*)"', html)
        assert len(ids) == len(set(ids)), name


def test_what_browsers_may_keep_has_its_checksum_in_its_address(world: World) -> None:
    browser = signed_in(world)
    linked = re.findall(r'(?:src|href)="(/console/static/[^"]+)"', browser.get(PAGE).text)
    assert len(linked) >= 4
    for address in linked:
        answer = browser.get(address)
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        checksum = address.split("/")[3]
        assert hashlib.sha256(answer.data).hexdigest().startswith(checksum)
        older = browser.get(address.replace(checksum, "0" * 16))
        assert (older.status_code, older.headers["Cache-Control"]) == (200, "no-store")
    for path in ("/console/static/x/../../desk.py", "/console/static/x/%2e%2e/desk.py", "/console/static/x/nothing.js"):
        assert browser.get(path).status_code == 404


def test_what_was_made_by_others_is_as_they_made_it_and_has_its_licence() -> None:
    written = [line.split() for line in (VENDORED / "CHECKSUMS").read_text().splitlines()]
    sums = {name: checksum for checksum, name in written}
    there = {path.name for path in VENDORED.iterdir()} - {"CHECKSUMS"}
    assert set(sums) == there
    for name, checksum in sums.items():
        assert hashlib.sha256((VENDORED / name).read_bytes()).hexdigest() == checksum, name
    made_by = {name.split("-")[0] for name in there}
    for library in made_by:
        assert any(name.startswith(f"{library}-LICENSE") for name in there), library


def test_wrong_addresses_are_pages_that_say_so(world: World) -> None:
    browser = signed_in(world)
    missing = browser.get("/console/nothing/here")
    assert missing.status_code == 404
    assert "No page of the console has this address" in text_of(missing)
    wrong = browser.post("/console/audit", {"csrf": browser.token_on(PAGE)})
    assert (wrong.status_code, wrong.headers["Allow"]) == (405, "GET")
    assert "takes GET only" in text_of(wrong)
    assert browser.get("/console/dead/replay").headers["Allow"] == "POST"
    assert browser.get("/console//dead").status_code == 404
    large = browser.post("/console/sign-out", {"csrf": browser.token_on(PAGE), "note": "x" * 1_100_000})
    assert large.status_code == 413
    assert world.count("console_sessions") == 1


@pytest.mark.parametrize(
    ("path", "named", "clear"),
    [
        ("/console/dead?since=soon&channel=people", "since", "/console/dead?channel=people"),
        ("/console/dead?colour=red", "colour", "/console/dead"),
        ("/console/dead?place=zzz&topic=help", "place", "/console/dead?topic=help"),
        ("/console/audit?via=pigeon&actor=ada", "via", "/console/audit?actor=ada"),
        ("/console/audit?before=-1", "before", "/console/audit"),
        ("/console/operations?before=1", "before", "/console/operations"),
    ],
)
def test_a_filter_that_makes_no_sense_is_named_and_can_be_cleared(
    world: World, path: str, named: str, clear: str
) -> None:
    answer = signed_in(world).get(path)
    assert answer.status_code == 400
    assert f"The filter {named} " in text_of(answer)
    assert f'href="{clear}"' in answer.text


def test_a_refresh_is_what_is_inside_the_page_and_nothing_when_that_is_the_same(world: World) -> None:
    browser = signed_in(world)
    whole = browser.get(PAGE)
    assert "<main" in whole.text
    refresh = browser.get(PAGE, headers={"X-Refresh": "1"})
    assert refresh.status_code == 200
    assert "<html" not in refresh.text
    assert refresh.text.strip() in whole.text or "data-part" in refresh.text
    world.execute("UPDATE audit SET at = at - interval '3 minutes'")
    again = browser.get(PAGE, headers={"X-Refresh": "1", "If-None-Match": refresh.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    world.database.run(
        lambda c: c.exec_driver_sql(
            "INSERT INTO operations (id, kind, actor, via, per_second, expected, upper_bound)"
            " VALUES (gen_random_uuid(), 'replay', 'ada', 'console', 1, 3, now()::text)"
        )
    )
    changed = browser.get(PAGE, headers={"X-Refresh": "1", "If-None-Match": refresh.headers["ETag"]})
    assert changed.status_code == 200
    assert changed.headers["X-Title"] == "%281%20at%20work%29%20Operations"


def test_an_idle_page_costs_two_statements_for_each_refresh(world: World) -> None:
    browser = signed_in(world)
    sent: list[str] = []

    def note(*call: Any) -> None:
        if "last_used_at" not in call[2]:  # which a thread writes at the first use of a key, and then now and then
            sent.append(call[2])

    # The one that finds the session goes past SQLAlchemy: it is the other of the two.
    engine = world.database._engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        for path in ("/console/dead", "/console/dead?view=rows", "/console/operations", "/console/audit"):
            sent.clear()
            assert browser.get(path, headers={"X-Refresh": "1"}).status_code == 200
            assert len(sent) == 1, (path, sent)
    finally:
        event.remove(engine, "before_cursor_execute", note)


def test_what_belongs_to_a_form_from_outside_names_one_that_is_there(world: World) -> None:
    request = world.submit().id
    world.deliver(request, Rejected(code="gone", detail="Gone.", reason=RejectionReason.DESTINATION))
    browser, found = signed_in(world), 0
    for path in (*PAGES, "/console/requests"):
        html = browser.get(path).text
        named = re.findall(r'\sform="([^"]+)"', html)
        found += len(named)
        assert set(named) <= set(re.findall(r'<form[^>]* id="([^"]+)"', html)), path
    assert found >= 6


def test_a_refresh_without_a_session_is_told_so_instead_of_being_led_away(world: World) -> None:
    browser = signed_in(world)
    world.execute("DELETE FROM console_sessions")
    assert browser.get(PAGE, headers={"X-Refresh": "1"}).status_code == 401


def test_what_was_done_is_said_once_and_only_to_the_session_that_did_it(world: World) -> None:
    browser, other = signed_in(world, name="ada"), signed_in(world, name="bob")
    answer = browser.act("/console/dead/replay", {"letter": "1"})
    assert answer.status_code == 303
    cookie = browser.client.get_cookie("assistance_said", path="/console")
    assert cookie is not None
    other.client.set_cookie("assistance_said", cookie.value, path="/console")
    assert "1 refused" not in text_of(other.get("/console/dead"))
    assert "1 refused" in text_of(browser.get("/console/dead"))
    assert "1 refused" not in text_of(browser.get("/console/dead"))


def test_a_viewer_sees_no_form_that_acts_and_is_refused_where_there_is_none(world: World) -> None:
    browser = signed_in(world, Role.VIEWER)
    for path in PAGES:
        posts = re.findall(r'<form method="post" action="([^"]*)"', browser.get(path).text)
        assert set(posts) <= {"/console/sign-out", "/console/sign-in"}, path
    operation = "/console/operations/01a1fc7e-2ccd-784a-8c72-549b47e809ff"
    for path in (
        "/console/dead/replay",
        "/console/dead/discard",
        "/console/dead/all",
        f"{operation}/cancel",
        f"{operation}/resume",
    ):
        answer = browser.act(path, {"letter": "1", "reason": "because", "shown": "1"})
        assert answer.status_code == 403, path
        assert "You are signed in as viewer; this needs an operator. Nothing was done." in text_of(answer)
    assert world.count("operations") == 0


def test_a_database_that_is_away_is_a_page_that_says_since_when_and_comes_back_by_itself(
    own_postgres: Callable[..., ControlledPostgres],
) -> None:
    server = own_postgres()
    world = World(server.url)
    try:
        browser = signed_in(world)
        token = browser.token_on(PAGE)
        server.kill()
        eventually(lambda: browser.get(PAGE).status_code == 503)
        away = browser.get(PAGE)
        assert (away.status_code, away.headers["Retry-After"]) == (503, "5")
        first = re.findall(r'It has not answered since <time datetime="([^"]+)"', away.text)
        assert len(first) == 1
        assert "data-away" in away.text, "the script knows by this that it has to try again"
        stranger = Browser(browser.client.application)
        assert stranger.get(PAGE).status_code == 303, "nobody asked the database"
        assert re.findall(r'It has not answered since <time datetime="([^"]+)"', browser.get(PAGE).text) == first
        acted = browser.post("/console/dead/replay", {"csrf": token, "letter": "1"})
        assert acted.status_code == 503
        assert "Nothing was done" in text_of(acted)
        server.start()
        eventually(lambda: browser.get(PAGE).status_code == 200)
        server.kill()
        eventually(lambda: browser.get(PAGE).status_code == 503)
        later = re.findall(r'It has not answered since <time datetime="([^"]+)"', browser.get(PAGE).text)
        assert later > first, "an outage that is over is forgotten"
    finally:
        world.close()


def test_a_console_without_a_database_still_shows_where_to_sign_in() -> None:
    database = Database("postgresql://127.0.0.1:1/nowhere", pool_size=1)
    world = World("postgresql://127.0.0.1:1/nowhere")
    try:
        browser = Browser(console_app(desk_of(world, database=database)))
        assert browser.get("/console/sign-in").status_code == 200
        assert browser.sign_in("anything").status_code == 503
    finally:
        world.close()
        database.close()


def test_the_package_carries_every_file_that_a_page_asks_for() -> None:
    templates = Path(static_files.__file__).parent / "templates" / "console"
    named = {
        name
        for template in templates.glob("*.html")
        for name in re.findall(r"static\(['\"]([^'\"]+)['\"]\)", template.read_text())
    }
    assert named
    for name in named:
        assert (static_files.FOLDER / name).is_file(), name
