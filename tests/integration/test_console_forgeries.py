"""Who does not get into the console: forged cookies and forms, other sites, and who guesses."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flask.testing import FlaskClient

from assistance.console.sessions import new_secret
from assistance.domain.operator import Role
from assistance.storage.database import Database
from tests.builders import World
from tests.console_tools import Browser, console_app, desk_of, key_for, signed_in, text_of

PAGE = "/console/operations"


def newcomer(world: World, **options: Any) -> Browser:
    return Browser(console_app(desk_of(world)), **options)


def status(browser: Browser, path: str = PAGE) -> int:
    return browser.get(path).status_code


def set_cookie(client: FlaskClient, value: str) -> None:
    client.set_cookie("assistance_console", value, path="/console")


def test_a_forged_cookie_is_no_session(world: World) -> None:
    browser = signed_in(world)
    for forged in ("", "x", "A" * 43, "é" * 43, "A" * 43 + ".", "../" * 20, "%00", "A" * 2000):
        set_cookie(browser.client, forged)
        assert status(browser) == 303, forged


def test_after_five_refused_attempts_an_address_waits_whichever_process_it_asks(world: World) -> None:
    key = key_for(world, Role.OPERATOR)
    elsewhere = Database(world.url, pool_size=2)
    try:
        one = Browser(console_app(desk_of(world)), address="192.0.2.7")
        two = Browser(console_app(desk_of(world, database=elsewhere)), address="192.0.2.7")
        answers = [(one if number % 2 else two).sign_in("wrong").status_code for number in range(6)]
        assert answers == [401, 401, 401, 401, 401, 429]
        for browser in (one, two):
            locked = browser.sign_in(key)
            assert locked.status_code == 429
            assert "Try again in 15 min" in text_of(locked)
        assert newcomer(world, address="192.0.2.8").sign_in(key).status_code == 303
        world.execute("UPDATE sign_in_failures SET locked_until = now() WHERE address = '192.0.2.7'")
        assert two.sign_in(key).status_code == 303
        assert world.count("sign_in_failures", "address = '192.0.2.7'") == 0
    finally:
        elsewhere.close()


def test_many_attempts_at_the_same_moment_get_no_more_than_five_looks(world: World) -> None:
    app = console_app(desk_of(world))
    browsers = [Browser(app, address="192.0.2.9") for _ in range(12)]
    tokens = [browser.token_on("/console/sign-in") for browser in browsers]

    def attempt(number: int) -> int:
        return browsers[number].post("/console/sign-in", {"csrf": tokens[number], "key": "wrong"}).status_code

    key_for(world, Role.VIEWER)
    with ThreadPoolExecutor(6) as together:
        answers = list(together.map(attempt, range(12)))
    assert sorted(answers) == [401] * 5 + [429] * 7


def test_failures_of_long_ago_do_not_count(world: World) -> None:
    key_for(world, Role.VIEWER)
    browser = newcomer(world)
    for _ in range(4):
        browser.sign_in("wrong")
    world.execute("UPDATE sign_in_failures SET last_at = now() - interval '16 minutes'")
    assert [browser.sign_in("wrong").status_code for _ in range(5)] == [401] * 5
    assert browser.sign_in("wrong").status_code == 429


def test_signing_in_leads_nowhere_but_to_the_console(world: World) -> None:
    key = key_for(world, Role.VIEWER)
    browser = newcomer(world)
    for wanted in (
        "https://evil.example/",
        "//evil.example/console/",
        "/\\evil.example",
        "/console/\\..\\..\\evil",
        "/console/\r\nSet-Cookie: a=b",
        "javascript:alert(1)",
        "/consolex",
        "/assistance",
        "console/",
        "http:///console/",
    ):
        answer = browser.sign_in(key, wanted=wanted)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/console/"), wanted


def test_no_answer_takes_its_address_from_the_host_header(world: World) -> None:
    key = key_for(world, Role.VIEWER)
    browser = newcomer(world)
    evil = {"base_url": "http://evil.example"}
    moved = [browser.get(path, **evil) for path in ("/console", "/console/operations")]
    token = re.findall(r'name="csrf" value="([^"]*)"', browser.get("/console/sign-in", **evil).text)[0]
    moved.append(browser.post("/console/sign-in", {"csrf": token, "key": key}, **evil))
    for answer in moved:
        assert answer.status_code in (302, 303)
        assert answer.headers["Location"].startswith("/console/"), answer.headers["Location"]
        assert "evil.example" not in answer.get_data(as_text=True)


def test_a_form_to_sign_in_that_another_site_sends_is_refused(world: World) -> None:
    key = key_for(world, Role.VIEWER)
    browser = newcomer(world)
    token = browser.token_on("/console/sign-in")
    for headers in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ):
        assert browser.post("/console/sign-in", {"csrf": token, "key": key}, headers=headers).status_code == 403
    for csrf in ("", "x", "é", token[:-1]):
        assert browser.post("/console/sign-in", {"csrf": csrf, "key": key}).status_code == 403
    assert Browser(browser.client.application).post("/console/sign-in", {"csrf": token, "key": key}).status_code == 403
    assert world.count("console_sessions") == 0
    ours = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    assert browser.post("/console/sign-in", {"csrf": token, "key": key}, headers=ours).status_code == 303


def test_every_form_needs_the_token_of_its_own_session(world: World) -> None:
    browser, other = signed_in(world, name="ada"), signed_in(world, name="bob")
    for csrf in ("", "forged", "é" * 64, other.token_on(PAGE), browser.token_on(PAGE)[:-1]):
        answer = browser.post("/console/sign-out", {"csrf": csrf})
        assert answer.status_code == 403, csrf
        assert "Nothing was done" in text_of(answer)
    right = browser.token_on(PAGE)
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        assert browser.post("/console/sign-out", {"csrf": right}, headers=headers).status_code == 403
    assert world.count("console_sessions") == 2
    assert browser.post("/console/sign-out", {"csrf": right}).status_code == 303


def test_a_form_without_a_session_says_that_nothing_was_done(world: World) -> None:
    browser = signed_in(world)
    token = browser.token_on(PAGE)
    world.execute("DELETE FROM console_sessions")
    answer = browser.post("/console/dead/replay", {"csrf": token, "letter": "1"})
    assert answer.status_code == 401
    assert "Nothing was done" in text_of(answer)
    assert "WWW-Authenticate" not in answer.headers, "a browser would open a window of its own"


def test_a_cookie_of_the_console_is_no_credential_of_the_api_and_a_key_none_of_the_console(world: World) -> None:
    key = key_for(world, Role.ADMIN)
    browser = newcomer(world)
    assert browser.get(PAGE, headers={"Authorization": f"Bearer {key}"}).status_code == 303
    secret = new_secret()
    assert secret.text not in repr(secret)
    assert str(secret.value) not in repr(secret)
