"""The trace of a call: it goes on with its caller's, or begins one, and log lines name it.

A span is made of calls that may change something. Those that only look are many, and say nothing of a request's way.
"""

from __future__ import annotations

from contextlib import ExitStack

import flask

from assistance.api.observing import request_id
from assistance.tracing.context import TraceContext, parse
from assistance.tracing.spans import Beginning, Kind, Span, Unrecorded, begin, current, doing, is_on

_LOOKING = ("GET", "HEAD", "OPTIONS")


def trace_calls(app: flask.Flask) -> None:
    """Follow every call from its routing to its end."""

    @app.before_request
    def enter() -> None:
        span = _span(parse(flask.request.environ.get("HTTP_TRACEPARENT")))
        if span is not None:
            flask.g.trace = ExitStack()
            flask.g.trace.callback(span.end)
            flask.g.trace.enter_context(doing(span))

    @app.after_request
    def say_answer(answer: flask.Response) -> flask.Response:
        if "trace" in flask.g:
            span = current()
            span.note({"http.response.status_code": answer.status_code})
            if answer.status_code >= 500:  # what is wrong with a call is no failure of ours
                span.failed(str(answer.status_code))
        return answer

    @app.teardown_request
    def leave(_error: BaseException | None) -> None:
        if (trace := flask.g.pop("trace", None)) is not None:
            trace.close()


def _span(caller: TraceContext | None) -> Span | None:
    """What the call is below its caller's span; none when nobody wants to know."""
    rule = flask.request.url_rule
    method = flask.request.method
    if not is_on() or rule is None or method in _LOOKING:
        return None if caller is None else Unrecorded(caller)
    attributes = {
        "http.request.method": method,
        "http.route": rule.rule,
        "url.scheme": flask.request.scheme,
        "assistance.call.id": request_id(),
    }
    return begin(Beginning(name=f"{method} {rule.rule}", kind=Kind.SERVER, attributes=attributes), caller)
