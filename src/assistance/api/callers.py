"""Who makes the call that is being answered, and whether they may.

A route asks `needs(Scope.READ)`, or `the_caller()` when every caller may, and gets the caller. Both work on every path
but the open ones, where nobody is asked who they are.
"""

from __future__ import annotations

import flask
import structlog

from assistance.api.door import Door
from assistance.api.limits import refuse_stranger
from assistance.api.problems import FORBIDDEN, Problem
from assistance.domain.caller import ANONYMOUS, Caller, Scope
from assistance.domain.errors import Unauthenticated
from assistance.runtime.addresses import is_loopback
from assistance.runtime.clock import Deadline
from assistance.runtime.metrics import authentication_refused

log = structlog.get_logger()

#: For probes and readers; what comes in through a signed source proves itself by its signature.
_OPEN = frozenset({"/livez", "/readyz", "/health", "/openapi.json", "/docs", "/problems/<code>"})
_SIGNED = "/ingest/"
#: For people at this machine; from elsewhere they need a credential of an operator.
_INSIDE = frozenset({"/metrics", "/sandbox"})
#: Of the time that a call has, what finding out who calls may take.
_SHARE_OF_DEADLINE = 0.4


def the_caller() -> Caller:
    """The caller of the call being answered."""
    found: Caller = flask.g.caller
    return found


def needs(scope: Scope) -> Caller:
    """The caller of the call being answered, who has this scope. Raises `Problem` (forbidden)."""
    caller = the_caller()
    if not caller.may(scope):
        raise Problem(FORBIDDEN, f"This needs a credential with the scope {scope}.")
    return caller


def identify_callers(app: flask.Flask, door: Door) -> None:
    """Find out who calls before a call is answered; refuse whoever does not say so."""

    @app.before_request
    def identify() -> None:
        # The rule that was matched, not the path: no path can be written so that it is taken for another.
        rule = flask.request.url_rule.rule if flask.request.url_rule else ""
        if rule in _OPEN or rule.startswith(_SIGNED):
            return
        if rule in _INSIDE and _may_look_inside(rule, door):
            return
        flask.g.caller = _authenticated(door)
        if rule in _INSIDE:
            needs(Scope.OPERATE)


def _may_look_inside(rule: str, door: Door) -> bool:
    return _is_on_this_machine() or (rule == "/sandbox" and door.sandbox_is_elsewhere)


def _is_on_this_machine() -> bool:
    # The address of the connection itself: what a gateway says about its own callers can be made up.
    return is_loopback(flask.request.remote_addr or "")


def _authenticated(door: Door) -> Caller:
    deadline = Deadline.after(door.deadline_seconds * _SHARE_OF_DEADLINE)
    try:
        caller = door.authenticate(flask.request.headers.get("Authorization"), deadline)
        if caller is ANONYMOUS and not _is_on_this_machine():
            # Whatever address the server was made to listen on.
            raise Unauthenticated("missing")
    except Unauthenticated as refused:
        authentication_refused.labels(reason=refused.reason).inc()
        log.info("api.caller_refused", reason=refused.reason, client=refused.client)
        refuse_stranger(door)
        raise
    return caller
