"""The one place where an exception below `/console` becomes a page."""

from __future__ import annotations

from urllib.parse import urlencode

import flask
import structlog
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing import MapAdapter

from assistance.api.observing import request_id
from assistance.api.problems import Problem
from assistance.console.desk import Desk
from assistance.console.showing import Refused, refuse, show
from assistance.domain.errors import AssistanceError, CommitUnknown, DatabaseUnavailable, IssuerUnavailable
from assistance.search.mistakes import FilterMistake

log = structlog.get_logger()

_RETRY_AFTER_SECONDS = 5
_ELSEWHERE = "console.nothing_here"
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def add_routes(blueprint: flask.Blueprint, desk: Desk) -> None:
    """Answer whatever is raised below `/console`, and every path there that nothing is served at."""

    @blueprint.errorhandler(Exception)
    def explain(error: Exception) -> flask.Response:
        return _page_for(desk, error)

    @blueprint.route("/<path:rest>", methods=_METHODS)
    def nothing_here(rest: str) -> flask.Response:  # noqa: ARG001 (the path is in the request)
        methods = _methods_here()
        if not methods:
            raise NotFound
        answer = refuse(f"This address takes {' and '.join(methods)} only. Nothing was done.", 405)
        answer.headers["Allow"] = ", ".join(methods)
        return answer


def _page_for(desk: Desk, error: Exception) -> flask.Response:
    match error:
        case Refused():
            return refuse(str(error), error.status, error.clear_url)
        case FilterMistake():
            return _for_filter(error)
        case DatabaseUnavailable():
            return _database_is_away(desk, error)
        case IssuerUnavailable():
            return refuse(str(error), 503)
        case AssistanceError():
            return refuse(f"{str(error).rstrip('.')}. Nothing was done.", 409)
        case Problem() if error.kind.http_status < 500:
            return refuse(error.detail, error.kind.http_status)
        case HTTPException() if error.code is not None and error.code < 500:
            return _for_http(error)
    log.error("console.failed", exc_info=error)
    return refuse(f"The service failed; the fault is not yours. The log has more under {request_id()}.", 500)


def _database_is_away(desk: Desk, error: DatabaseUnavailable) -> flask.Response:
    log.warning("console.database_unavailable", reason=str(error))
    answer = show(
        "away.html",
        title="The database does not answer",
        status=503,
        since=desk.outage.since(),
        may_have_been_stored=isinstance(error, CommitUnknown),
        was_read=flask.request.method == "GET",
    )
    answer.headers["Retry-After"] = str(_RETRY_AFTER_SECONDS)
    return answer


def _for_filter(error: FilterMistake) -> flask.Response:
    """Names the filter that makes no sense, and leads to the same page without it."""
    others = [(name, value) for name, value in flask.request.args.items(multi=True) if name != error.name]
    clear_url = flask.request.path + (f"?{urlencode(others)}" if others else "")
    if flask.request.method != "GET":
        return refuse(f"{error} Nothing was done.", 400)
    return refuse(f"{error} The address says: {error.value or 'nothing'}", 400, clear_url)


def _for_http(error: HTTPException) -> flask.Response:
    code = error.code or 400
    match code:
        case 404:
            return refuse("No page of the console has this address.", 404, "/console/")
        case 413:
            return refuse("This form holds more than the console takes. Nothing was done.", 413)
    return refuse("This call cannot be understood.", code)


def _methods_here() -> list[str]:
    """What the address that was asked for would take, were it asked for in another way."""
    adapter: MapAdapter | None = flask.current_app.create_url_adapter(flask.request)
    found = []
    for method in ("GET", "POST"):
        try:
            endpoint, _ = adapter.match(method=method) if adapter else (_ELSEWHERE, {})
        except HTTPException:
            continue
        if endpoint != _ELSEWHERE:
            found.append(method)
    return found
