"""What every answer carries and what is kept of it: an id, safe headers, a log line, two metrics."""

from __future__ import annotations

import re

import flask
import structlog

from assistance.api.problem_types import BAD_REQUEST, NOT_FOUND
from assistance.api.problems import Problem
from assistance.runtime.clock import monotonic
from assistance.runtime.ids import uuid7
from assistance.runtime.metrics import accept_seconds, http_request_seconds, http_requests

log = structlog.get_logger()

_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: One host with or without a port; a server that got two Host lines joins them with a comma.
_HOST = re.compile(r"[A-Za-z0-9._~%!$&'()*+;=\-]+(?::[0-9]*)?|\[[0-9A-Fa-f:.%]+\](?::[0-9]*)?")
_LONGEST_METHOD = 16


def observe(app: flask.Flask) -> None:
    """Give every call an id, and every answer its headers, its log line and its place in the metrics."""

    @app.before_request
    def begin() -> None:
        flask.g.began_at = monotonic()
        structlog.contextvars.bind_contextvars(request_id=request_id())
        _check_host(flask.request)
        _check_path(flask.request)

    @app.after_request
    def end(answer: flask.Response) -> flask.Response:
        answer.headers["X-Content-Type-Options"] = "nosniff"
        answer.headers.setdefault("Cache-Control", "no-store")
        answer.headers["X-Request-Id"] = request_id()
        seconds = monotonic() - flask.g.began_at - flask.g.get("waited_seconds", 0.0)
        http_requests.labels(status=str(answer.status_code)).inc()
        http_request_seconds.observe(seconds)
        rule = flask.request.url_rule
        if flask.request.method == "POST" and rule is not None and rule.rule == "/assistance":
            accept_seconds.observe(seconds)
        log.info(
            "api.answered",
            method=flask.request.method[:_LONGEST_METHOD],
            path=rule.rule if rule else None,
            status=answer.status_code,
            ms=round(seconds * 1000, 1),
        )
        return answer

    @app.teardown_request
    def forget(_error: BaseException | None) -> None:
        structlog.contextvars.unbind_contextvars("request_id")


def request_id() -> str:
    """The id of the call being answered: the caller's own if it is harmless, else a new one."""
    known: str | None = flask.g.get("request_id")
    if known is None:
        given = flask.request.headers.get("X-Request-Id", "")
        known = flask.g.request_id = given if _GIVEN_ID.fullmatch(given) else str(uuid7())
    return known


def _check_host(request: flask.Request) -> None:
    host = request.environ.get("HTTP_HOST") or ""
    if request.environ.get("SERVER_PROTOCOL") == "HTTP/1.1" and not _HOST.fullmatch(host):
        raise Problem(BAD_REQUEST, "HTTP/1.1 needs exactly one Host header.")


def _check_path(request: flask.Request) -> None:
    path = request.environ.get("PATH_INFO") or ""
    # Routing forgives leading slashes, also none and many; a gateway that filters by path does not.
    if not path.startswith("/") or path.startswith("//"):
        raise Problem(NOT_FOUND, "Nothing is served at this path.")
