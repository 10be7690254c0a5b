"""Who looks at the console: the session behind the cookie, and what everybody has to prove before a page is made.

The cookie is `SameSite=Lax`, so that a link pasted into a chat opens the page for somebody who is signed in. What acts
is guarded by more: each POST carries a token made from the session's secret, and browsers say whose page sent it.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import flask

from assistance.api.observing import request_id
from assistance.console.desk import Desk
from assistance.console.health import Health, judge
from assistance.console.sessions import LONGEST_SECONDS, Secret, find_session, read_secret_text
from assistance.console.showing import Refused, came_by_https, is_refresh
from assistance.domain.operator import Actor, Role
from assistance.status.signs import Signs

COOKIE = "assistance_console"
SIGN_IN = "/console/sign-in"
#: Endpoints that nobody has to be signed in for.
OPEN = frozenset(
    {"console.static_file", "console.sign_in", "console.sign_in_with_key", "console.link", "console.use_link_once"}
)
_LARGEST_FORM = 1024 * 1024
_READS = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedIn:
    """Who is signed in; `sees_text` says whether lists show customers' words, `csrf` goes into every form.

    `signs` are the installation's own, read with the session, and `health` what they mean.
    """

    name: str
    role: Role
    csrf: str
    sees_text: bool
    signs: Signs
    health: Health


def the_operator() -> SignedIn:
    """Who makes the call that is being answered."""
    found: SignedIn = flask.g.console_operator
    return found


def needs(role: Role) -> SignedIn:
    """Who makes the call, and has this role. Raises `Refused` (403)."""
    signed_in = the_operator()
    if not signed_in.role.holds(role):
        article = "an" if role.value[0] in "aeiou" else "a"
        raise Refused(f"You are signed in as {signed_in.role}; this needs {article} {role}. Nothing was done.", 403)
    return signed_in


def actor() -> Actor:
    """Who makes the call, for the audit log."""
    return Actor(name=the_operator().name, via="console", request_id=request_id())


def guard(blueprint: flask.Blueprint, desk: Desk) -> None:
    """Let nobody in who is not signed in, and no form that is not ours."""

    @blueprint.before_request
    def look() -> flask.Response | None:
        flask.request.max_content_length = _LARGEST_FORM
        if flask.request.method not in _READS:
            refuse_other_origins()
        if flask.request.endpoint in OPEN:
            return None
        secret = read_secret_text(flask.request.cookies.get(COOKIE))
        if secret is None:
            return _to_sign_in()
        session = find_session(desk.database, secret, desk.deadline())
        desk.outage.is_over()
        if session is None:
            return _to_sign_in()
        flask.g.console_secret = secret.value
        flask.g.console_operator = SignedIn(
            name=session.operator,
            role=session.role,
            csrf=_token_of(secret),
            sees_text=not desk.hide_text or session.role is not Role.VIEWER,
            signs=session.signs,
            health=judge(session.signs, desk.configuration()),
        )
        if flask.request.method not in _READS:
            _check_token(flask.request.form.get("csrf", ""))
        return None


def refuse_other_origins() -> None:
    """Raises `Refused` for a form that a page of somebody else's sent."""
    site = flask.request.headers.get("Sec-Fetch-Site")
    origin = flask.request.headers.get("Origin")
    # The host only: behind a gateway that ends the encryption, our own address begins with http.
    foreign = origin is not None and urlsplit(origin).netloc.lower() != flask.request.host.lower()
    if foreign or site not in (None, "same-origin", "none"):
        raise Refused("Another site sent this form. Nothing was done.", 403)


def give_cookie(answer: flask.Response, secret: Secret) -> None:
    """Let the browser keep a session."""
    answer.set_cookie(
        COOKIE,
        secret.text,
        max_age=LONGEST_SECONDS,
        path="/console",
        httponly=True,
        samesite="Lax",
        secure=came_by_https(),
    )


def is_place_of_ours(url: str) -> bool:
    """Whether an address leads to a page of the console, however a browser may read it."""
    plain = url.isprintable() and "\\" not in url
    return plain and (url == "/console" or url.startswith("/console/")) and not urlsplit(url).netloc


def _to_sign_in() -> flask.Response:
    if flask.request.method not in _READS:
        raise Refused("Your session has ended. Nothing was done: sign in, and do it again.", 401, SIGN_IN)
    if is_refresh():
        return flask.Response("signed out", 401, content_type="text/plain; charset=utf-8")
    wanted = flask.request.full_path.rstrip("?")
    answer = flask.redirect(f"{SIGN_IN}?next={quote(wanted, safe='')}", 303)
    assert isinstance(answer, flask.Response)
    return answer


def _token_of(secret: Secret) -> str:
    return hmac.new(secret.value, b"form", "sha256").hexdigest()


def _check_token(given: str) -> None:
    if not hmac.compare_digest(given.encode("utf-8", "replace"), the_operator().csrf.encode()):
        raise Refused("This form is not from this session, or too old. Nothing was done: load the page again.", 403)
