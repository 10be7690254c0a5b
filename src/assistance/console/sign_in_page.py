"""`/console/sign-in`, one-time links and signing out."""

from __future__ import annotations

import hmac
import math

import flask
import structlog
from sqlalchemy import Connection

from assistance.api.observing import request_id
from assistance.clients.keys import parse_key
from assistance.console.desk import Desk
from assistance.console.lockout import count_attempt, forget_attempts
from assistance.console.sessions import Secret, end_session, new_secret, open_session, read_secret_text, use_link
from assistance.console.showing import Refused, came_by_https, go_to, show
from assistance.console.signing_in import COOKIE, SIGN_IN, actor, give_cookie, is_place_of_ours
from assistance.domain.caller import ANONYMOUS
from assistance.domain.errors import Unauthenticated
from assistance.domain.operator import Actor, Role, role_of
from assistance.operating.audit import record

log = structlog.get_logger()

#: Whoever is not signed in has no session to make a form's token from: it is made from this cookie instead, which no
#: other site can read or set.
_FORM_COOKIE = "assistance_form"
_HOME = "/console/"
_NOT_KNOWN = "Nobody can sign in with this. A key needs the scope view, operate or admin, and must not have ended."
_NO_CLIENT = "There is no key yet. `assistance console-link` makes a link that opens the console."
_LINK_OVER = "This link was used before, or its hour is over. `assistance console-link` makes another."


def add_routes(blueprint: flask.Blueprint, desk: Desk) -> None:
    """Serve how people come in and go."""

    @blueprint.get("/sign-in")
    def sign_in() -> flask.Response:
        return _form("sign_in.html", title="Sign in", wanted=_wanted(flask.request.args.get("next")))

    @blueprint.post("/sign-in")
    def sign_in_with_key() -> flask.Response:
        wanted = _wanted(flask.request.form.get("next"))
        _check_form()
        _count(desk)
        text = flask.request.form.get("key", "").strip()
        try:
            name, role, prefix = _known_by(desk, text)
        except Unauthenticated as refused:
            log.info("console.sign_in_refused", reason=refused.reason, client=refused.client)
            problem = _NO_CLIENT if refused.reason == "no_client" else _NOT_KNOWN
            return _form("sign_in.html", title="Sign in", status=401, wanted=wanted, problem=problem)
        return _let_in(desk, name, role, prefix, wanted)

    @blueprint.get("/link/<secret>")
    def link(secret: str) -> flask.Response:
        # Opening the address changes nothing: what looks at links in chats would use them up.
        return _form("link.html", title="Sign in", secret=secret)

    @blueprint.post("/link/<secret>")
    def use_link_once(secret: str) -> flask.Response:
        _check_form()
        _count(desk)
        read = read_secret_text(secret)
        found = desk.database.run(lambda c: use_link(c, read), desk.deadline()) if read else None
        if found is None:
            return _form("sign_in.html", title="Sign in", status=401, wanted=_HOME, problem=_LINK_OVER)
        return _let_in(desk, *found, None, _HOME)

    @blueprint.post("/sign-out")
    def sign_out() -> flask.Response:
        secret, who = Secret(flask.g.console_secret), actor()

        def change(connection: Connection) -> None:
            end_session(connection, secret)
            record(connection, who, "sign_out", "session", who.name)

        desk.database.run(change, desk.deadline())
        log.info("console.signed_out", operator=who.name)
        answer = go_to(SIGN_IN)
        answer.delete_cookie(COOKIE, path="/console")
        return answer


def _known_by(desk: Desk, text: str) -> tuple[str, Role, str | None]:
    """Who signs in with this key or token, as what, and the key's readable name. Raises `Unauthenticated`."""
    caller = desk.authenticate(f"Bearer {text}", desk.deadline())
    if caller is ANONYMOUS:
        raise Unauthenticated("no_client")
    role = role_of(caller)
    if role is None:
        raise Unauthenticated("no_role", caller.client)
    key = parse_key(text)
    return caller.client, role, key.prefix if key else None


def _let_in(desk: Desk, name: str, role: Role, key_prefix: str | None, wanted: str) -> flask.Response:
    """Open a session; one that the browser had before ends."""
    address, old = _address(), read_secret_text(flask.request.cookies.get(COOKIE))
    who = Actor(name=name, via="console", request_id=request_id())

    def change(connection: Connection) -> Secret:
        forget_attempts(connection, address)
        if old is not None:
            end_session(connection, old)
        after = {"role": role.value} | ({"key": key_prefix} if key_prefix else {})
        record(connection, who, "sign_in", "session", name, after=after)
        return open_session(connection, name, role, key_prefix=key_prefix)

    secret = desk.database.run(change, desk.deadline())
    log.info("console.signed_in", operator=name, role=role, key=key_prefix)
    answer = go_to(wanted)
    give_cookie(answer, secret)
    answer.delete_cookie(_FORM_COOKIE, path="/console")
    return answer


def _count(desk: Desk) -> None:
    """Count an attempt to sign in. Raises `Refused` (429) when its address has to wait."""
    address = _address()
    seconds = desk.database.run(lambda connection: count_attempt(connection, address), desk.deadline())
    desk.outage.is_over()
    if seconds > 0:
        log.warning("console.locked_out", address=address)
        minutes = math.ceil(seconds / 60)
        raise Refused(f"Too many attempts from your address were refused. Try again in {minutes} min.", 429)


def _address() -> str:
    return flask.request.remote_addr or ""


def _form(template: str, *, title: str, status: int = 200, **values: str) -> flask.Response:
    """A page with a form for somebody who has no session yet."""
    given = read_secret_text(flask.request.cookies.get(_FORM_COOKIE))
    secret = given or new_secret()
    answer = show(template, title=title, status=status, form_token=_token_of(secret), **values)
    if given is None:
        answer.set_cookie(
            _FORM_COOKIE, secret.text, path="/console", httponly=True, samesite="Strict", secure=came_by_https()
        )
    return answer


def _check_form() -> None:
    """Raises `Refused` (403) for a form that we did not give to this browser."""
    secret = read_secret_text(flask.request.cookies.get(_FORM_COOKIE))
    given = flask.request.form.get("csrf", "")
    if secret is None or not hmac.compare_digest(given.encode("utf-8", "replace"), _token_of(secret).encode()):
        raise Refused("This form is too old, or your browser keeps no cookies. Load the page again.", 403, SIGN_IN)


def _token_of(secret: Secret) -> str:
    return hmac.new(secret.value, b"sign-in", "sha256").hexdigest()


def _wanted(given: str | None) -> str:
    """Where to go afterwards: to a page of ours, whatever the address says."""
    return given if given and is_place_of_ours(given) else _HOME
