"""Who makes the call that is being answered, and whether they may.

A route asks `needs(Scope.READ)`, or `the_caller()` when every caller may, and gets the caller. Both work on every path
but the open ones, where nobody is asked who they are.
"""

from __future__ import annotations

import flask
import structlog

from assistance.api.door import Door
from assistance.api.limits import refuse_stranger
from assistance.api.problem_types import FORBIDDEN
from assistance.api.problems import Problem
from assistance.domain.caller import ANONYMOUS, Caller, Scope
from assistance.domain.errors import AssistanceError, Unauthenticated
from assistance.runtime.addresses import is_loopback, names_loopback
from assistance.runtime.clock import Deadline
from assistance.runtime.metrics import authentication_refused

log = structlog.get_logger()

#: For probes and readers; what comes in through a signed source proves itself by its signature.
_OPEN = frozenset({"/livez", "/readyz", "/health", "/openapi.json", "/docs", "/problems/<code>"})
_SIGNED = "/ingest/"
#: Its people have sessions of their own, which `assistance.console` looks after.
CONSOLE = "/console"
#: For people at this machine; from elsewhere they need a credential with the scope `view`.
_INSIDE = frozenset({"/metrics", "/sandbox"})
#: What gateways add: a call that has one was made elsewhere, and handed on by this machine.
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP")
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
        if rule in _OPEN or rule == CONSOLE or rule.startswith((_SIGNED, f"{CONSOLE}/")):
            return
        if rule in _INSIDE and _may_look_inside(rule, door):
            return
        flask.g.caller = _authenticated(door)
        if rule in _INSIDE:
            needs(Scope.VIEW)


def _may_look_inside(rule: str, door: Door) -> bool:
    return _is_on_this_machine() or (rule == "/sandbox" and door.sandbox_is_elsewhere)


def knows_the_caller(door: Door) -> bool:
    """Whether the call being answered comes from somebody whom we know, on a path where nobody is asked."""
    try:
        _find_out(door)
    except AssistanceError:
        return False
    return True


def _is_on_this_machine() -> bool:
    """Whether the call was made on this machine, and not by a page of somebody else's in a browser that runs here.

    Such a page can have its own name lead to this machine, but then its name is the `Host`; and the browser says in
    `Origin` whose page posts to another.
    """
    headers = flask.request.headers
    # The address of the connection itself: what a gateway says about its own callers can be made up.
    if not is_loopback(flask.request.remote_addr or "") or any(name in headers for name in _FORWARDED):
        return False
    host, origin = headers.get("Host", ""), headers.get("Origin")
    return (not host or names_loopback(host)) and origin in (None, f"http://{host}", f"https://{host}")


def _authenticated(door: Door) -> Caller:
    try:
        return _find_out(door)
    except Unauthenticated as refused:
        authentication_refused.labels(reason=refused.reason).inc()
        log.info("api.caller_refused", reason=refused.reason, client=refused.client)
        refuse_stranger(door)
        raise


def _find_out(door: Door) -> Caller:
    deadline = Deadline.after(door.deadline_seconds * _SHARE_OF_DEADLINE)
    caller = door.authenticate(flask.request.headers.get("Authorization"), deadline)
    if caller is ANONYMOUS and not _is_on_this_machine():
        # Whatever address the server was made to listen on.
        raise Unauthenticated("missing")
    return caller
