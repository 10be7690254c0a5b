"""Who gets into the console, for how long, and who does not."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from flask.testing import FlaskClient
from joserfc import jwt
from joserfc.jwk import OctKey

from assistance.clients import store
from assistance.clients.authenticate import Authenticator
from assistance.clients.issuers import Issuer
from assistance.configuration import IssuerSettings
from assistance.console.sessions import new_link
from assistance.domain.caller import Scope
from assistance.domain.operator import Role
from assistance.runtime.clock import Deadline
from tests.builders import World, in_transaction
from tests.console_tools import Browser, console_app, desk_of, key_for, signed_in, text_of
from tests.terminal import Terminal

PAGE = "/console/operations"


def newcomer(world: World, **options: Any) -> Browser:
    return Browser(console_app(desk_of(world)), **options)


def status(browser: Browser, path: str = PAGE) -> int:
    return browser.get(path).status_code


def cookie_of(client: FlaskClient) -> str:
    found = client.get_cookie("assistance_console", path="/console")
    assert found is not None
    return found.value


def set_cookie(client: FlaskClient, value: str) -> None:
    client.set_cookie("assistance_console", value, path="/console")


def test_a_person_signs_in_with_a_key_and_lands_where_they_wanted_to_go(world: World) -> None:
    browser = newcomer(world)
    asked = browser.get("/console/dead?channel=people")
    assert asked.status_code == 303
    assert asked.headers["Location"] == "/console/sign-in?next=%2Fconsole%2Fdead%3Fchannel%3Dpeople"
    answer = browser.sign_in(key_for(world, Role.VIEWER, name="ada"), wanted="/console/dead?channel=people")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/console/dead?channel=people")
    page = text_of(browser.get("/console/dead?channel=people"))
    assert "ada (viewer)" in page


def test_what_the_browser_keeps_is_not_in_the_database(world: World) -> None:
    browser = signed_in(world)
    (session,) = world.rows("SELECT digest, operator, role FROM console_sessions")
    assert (session.operator, session.role) == ("the-operator", "operator")
    assert cookie_of(browser.client) not in str(world.rows("SELECT * FROM console_sessions"))
    assert len(session.digest) == 32


def test_the_cookie_is_for_no_script_and_for_https_only_where_there_is_https(world: World) -> None:
    key = key_for(world, Role.OPERATOR)
    for headers, is_secure in (({}, False), ({"X-Forwarded-Proto": "https"}, True)):
        browser = newcomer(world)
        form = {"csrf": browser.token_on("/console/sign-in"), "key": key}
        cookies = browser.post("/console/sign-in", form, headers=headers).headers.getlist("Set-Cookie")
        (cookie,) = [one for one in cookies if one.startswith("assistance_console=")]
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        assert "Path=/console" in cookie
        assert "Max-Age=43200" in cookie
        assert ("Secure" in cookie) == is_secure


def test_the_key_of_a_bot_opens_nothing(world: World) -> None:
    key = world.database.run(lambda c: store.create(c, "bot", scopes=[Scope.SUBMIT, Scope.READ])).text
    browser = newcomer(world)
    answer = browser.sign_in(key)
    assert answer.status_code == 401
    assert "scope view, operate or admin" in text_of(answer)
    assert world.count("console_sessions") == 0
    assert status(browser) == 303


def test_an_installation_without_keys_lets_nobody_in_without_a_link(world: World) -> None:
    answer = newcomer(world).sign_in("anything")
    assert answer.status_code == 401
    assert "assistance console-link" in text_of(answer)
    assert status(newcomer(world)) == 303


def test_a_revoked_key_ends_the_sessions_that_it_opened_with_the_next_call(world: World) -> None:
    browser, other = signed_in(world, name="ada"), signed_in(world, name="bob")
    assert (status(browser), status(other)) == (200, 200)
    world.database.run(lambda connection: store.revoke(connection, "ada"))
    assert (status(browser), status(other)) == (303, 200)


def test_an_expired_key_ends_its_sessions_too(world: World) -> None:
    browser = signed_in(world)
    world.execute("UPDATE client_keys SET expires_at = now()")
    assert status(browser) == 303


def test_a_session_ends_after_an_idle_hour_and_after_twelve_hours(world: World) -> None:
    for number, change in enumerate(("seen_at = now() - interval '61 minutes'", "expires_at = now()")):
        browser = signed_in(world, name=f"ada-{number}")
        assert world.count("console_sessions") == 1, "the one that was over is swept out"
        (row,) = world.rows("SELECT extract(epoch FROM expires_at - created_at) AS seconds FROM console_sessions")
        assert row.seconds == 12 * 3600
        world.execute("UPDATE console_sessions SET seen_at = now() - interval '59 minutes'")
        assert status(browser) == 200
        world.execute(f"UPDATE console_sessions SET {change}")
        assert status(browser) == 303


def test_that_somebody_is_there_is_written_down_once_a_minute_at_most(world: World) -> None:
    browser = signed_in(world)
    before = world.rows("SELECT seen_at, xmin FROM console_sessions")
    assert status(browser) == 200
    assert world.rows("SELECT seen_at, xmin FROM console_sessions") == before
    world.execute("UPDATE console_sessions SET seen_at = now() - interval '61 seconds'")
    assert status(browser) == 200
    assert world.count("console_sessions", "seen_at > now() - interval '10 seconds'") == 1


def test_who_signs_out_cannot_come_back_with_the_old_cookie(world: World) -> None:
    browser = signed_in(world)
    old = cookie_of(browser.client)
    answer = browser.act("/console/sign-out")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/console/sign-in")
    assert world.count("console_sessions") == 0
    set_cookie(browser.client, old)
    assert status(browser) == 303


def test_signing_in_and_out_is_in_the_audit_log(world: World) -> None:
    signed_in(world, Role.ADMIN, name="ada").act("/console/sign-out")
    rows = world.rows("SELECT actor, via, action, subject_kind, request_id FROM audit ORDER BY id")
    assert [tuple(row)[:4] for row in rows] == [
        ("ada", "console", "sign_in", "session"),
        ("ada", "console", "sign_out", "session"),
    ]
    assert all(row.request_id for row in rows)


def test_signing_in_again_ends_the_session_before(world: World) -> None:
    browser = signed_in(world, name="ada")
    old = cookie_of(browser.client)
    assert browser.sign_in(key_for(world, Role.VIEWER, name="bob")).status_code == 303
    assert cookie_of(browser.client) != old
    assert [row.operator for row in world.rows("SELECT operator FROM console_sessions")] == ["bob"]


def test_a_link_opens_the_console_once_and_looking_at_it_does_not_use_it_up(world: World) -> None:
    link = world.database.run(lambda c: new_link(c, "http://127.0.0.1:8080/", "cli:eve", Role.VIEWER))
    path = link.removeprefix("http://127.0.0.1:8080")
    browser = newcomer(world)
    assert [browser.get(path).status_code for _ in range(3)] == [200, 200, 200]
    assert world.count("console_links") == 1
    used = browser.post(path, {"csrf": browser.token_on(path)})
    assert (used.status_code, used.headers["Location"]) == (303, "/console/")
    assert "cli:eve (viewer)" in text_of(browser.get(PAGE))
    late = newcomer(world)
    again = late.post(path, {"csrf": late.token_on(path)})
    assert again.status_code == 401
    assert "used before" in text_of(again)
    assert status(late) == 303


def test_a_link_that_is_an_hour_old_opens_nothing(world: World) -> None:
    path = "/" + world.database.run(lambda c: new_link(c, "", "cli:eve", Role.ADMIN)).lstrip("/")
    world.execute("UPDATE console_links SET expires_at = now()")
    browser = newcomer(world)
    assert browser.post(path, {"csrf": browser.token_on(path)}).status_code == 401
    assert world.count("console_sessions") == 0


def test_two_people_with_one_link_are_one_session(world: World) -> None:
    path = "/" + world.database.run(lambda c: new_link(c, "", "cli:eve", Role.ADMIN)).lstrip("/")
    app = console_app(desk_of(world))
    browsers = [Browser(app, address=f"192.0.2.{number}") for number in range(4)]
    tokens = [browser.token_on(path) for browser in browsers]
    with ThreadPoolExecutor(4) as together:
        answers = list(
            together.map(lambda one: one[0].post(path, {"csrf": one[1]}), zip(browsers, tokens, strict=True))
        )
    assert sorted(answer.status_code for answer in answers) == [303, 401, 401, 401]


def test_the_role_is_that_of_the_widest_scope(world: World) -> None:
    for role in Role:
        browser = signed_in(world, role, name=f"p-{role}")
        assert f"({role})" in text_of(browser.get(PAGE))
    assert in_transaction(world.database, lambda c: len(store.list_keys(c))) == 3


def test_the_command_prints_a_link_that_works_alone_on_its_line(world: World, terminal: Terminal) -> None:
    code, out = terminal.run("console-link", "--role", "viewer", "--operator", "Eve", "--url", "http://127.0.0.1:8081")
    assert code == 0, terminal.err
    link = out.strip()
    assert link.startswith("http://127.0.0.1:8081/console/link/")
    assert "as Eve (viewer), within an hour" in terminal.err
    browser, path = newcomer(world), link.removeprefix("http://127.0.0.1:8081")
    assert browser.post(path, {"csrf": browser.token_on(path)}).status_code == 303
    assert "Eve (viewer)" in text_of(browser.get(PAGE))
    assert terminal.run("console-link", "--operator", " ")[0] == 2


def test_a_token_of_an_identity_provider_opens_a_session_for_its_subject(world: World) -> None:
    secret = "a secret of more than thirty-two bytes"

    class Shared:
        def find(self, algorithm: str, kid: str | None, deadline: Deadline) -> OctKey:
            return OctKey.import_key(secret)

    settings = IssuerSettings(name="sso", issuer="https://login.example/", audience="assistance", algorithms=("HS256",))
    authenticate = Authenticator(world.database, [Issuer(settings, Shared())], anonymous_allowed=True)
    browser = Browser(console_app(replace(desk_of(world), authenticate=authenticate)))

    def token(scope: str) -> str:
        claims = {"iss": settings.issuer, "aud": "assistance", "sub": "ada", "exp": time.time() + 60, "scope": scope}
        return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(secret), algorithms=["HS256"])

    assert browser.sign_in(token("submit read")).status_code == 401
    assert browser.sign_in("not." + token("operate").partition(".")[2]).status_code == 401
    assert browser.sign_in(token("openid operate")).status_code == 303
    assert "sso:ada (operator)" in text_of(browser.get(PAGE))
