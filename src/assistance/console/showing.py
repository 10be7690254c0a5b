"""Makes the answers of the console: pages, their live refresh, redirects after an act, and refusals."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from typing import Any
from urllib.parse import quote

import flask

from assistance.domain.errors import AssistanceError

#: What the script of the page sends along when it asks for the page's newest content.
_REFRESH = "X-Refresh"
_SAID = "assistance_said"
_LONGEST_SAID = 500
_SAID_SECONDS = 60
#: The words of an instant change each second without anything having happened.
_WORDS_OF_TIMES = re.compile(r"(<time [^>]*>)[^<]*(</time>)")


class Refused(AssistanceError):
    """The console refuses a call: one sentence, the HTTP status, and where to go without the mistake."""

    def __init__(self, problem: str, status: int = 400, clear_url: str | None = None) -> None:
        super().__init__(problem)
        self.status = status
        self.clear_url = clear_url


def is_refresh() -> bool:
    """Whether the page's own script asks, for what is inside `<main>` only."""
    return flask.request.headers.get(_REFRESH) == "1"


def show(template: str, *, title: str, status: int = 200, **values: Any) -> flask.Response:
    """A page from `templates/console/`; to a live refresh what is inside its `<main>`, or 304 when that is the same.

    The template extends `layout`, and fills the block `main`. With `refresh_seconds` among the values the page is
    live, so often by default (0: not now); `steady` keeps the rows of its `data-rows` where they are, and counts new
    ones. `docs/console.md` lists the attributes that the script knows.
    """
    layout = "console/_refresh.html" if is_refresh() else "console/base.html"
    said = None if is_refresh() else _said()
    html = flask.render_template(f"console/{template}", layout=layout, title=title, said=said, **values)
    answer = flask.Response(html, status, content_type="text/html; charset=utf-8")
    if is_refresh() and status == 200:
        answer.headers["X-Title"] = quote(title)
        answer.set_etag(hashlib.sha256(_WORDS_OF_TIMES.sub(r"\1\2", html).encode()).hexdigest()[:32])
        answer.make_conditional(flask.request)
    if said is not None:
        answer.delete_cookie(_SAID, path="/console")
    return answer


def go_to(url: str, said: str | None = None) -> flask.Response:
    """See other: the page at `url`, which is one of ours, shows the sentence `said` once."""
    answer = flask.redirect(url, 303)
    assert isinstance(answer, flask.Response)
    if said:
        text = said if len(said) <= _LONGEST_SAID else said[: _LONGEST_SAID - 1] + "…"
        payload = base64.urlsafe_b64encode(text.encode("utf-8", "replace")).decode()
        answer.set_cookie(
            _SAID,
            f"{payload}.{_signature(payload)}",
            max_age=_SAID_SECONDS,
            path="/console",
            httponly=True,
            samesite="Lax",
            secure=came_by_https(),
        )
    return answer


def refuse(problem: str, status: int, clear_url: str | None = None) -> flask.Response:
    """A page that says in one sentence what is wrong, and leads to where it is not."""
    return show(
        "refused.html",
        title=_TITLES.get(status, "This did not work"),
        status=status,
        problem=problem,
        clear_url=clear_url,
        http_status=status,
    )


def came_by_https() -> bool:
    """Whether the caller's browser speaks https, to us or to the gateway before us.

    Whoever makes the gateway's header up gets a cookie that his own browser will not send back.
    """
    return flask.request.is_secure or flask.request.headers.get("X-Forwarded-Proto", "").lower() == "https"


_TITLES = {
    400: "This cannot be shown",
    401: "Sign in again",
    403: "You may not do this",
    404: "There is nothing here",
    405: "This cannot be done here",
    409: "This was not done",
    413: "This is too much",
    429: "Wait a little",
    500: "This failed",
    503: "The database does not answer",
}


def _said() -> str | None:
    """The sentence that the answer before this one left for this page."""
    payload, _, signature = flask.request.cookies.get(_SAID, "").rpartition(".")
    if not payload or not hmac.compare_digest(signature.encode(), _signature(payload).encode()):
        return None
    try:
        return base64.urlsafe_b64decode(payload).decode()
    except (binascii.Error, ValueError):
        return None


def _signature(payload: str) -> str:
    """Proves that we wrote the sentence, for the session that is to read it."""
    secret: bytes = flask.g.get("console_secret", b"")
    return hmac.new(secret, b"said:" + payload.encode(), "sha256").hexdigest()
