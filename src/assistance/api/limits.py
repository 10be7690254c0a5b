"""Keeps each client within its rate, and tells it where it stands (draft-ietf-httpapi-ratelimit-headers)."""

from __future__ import annotations

import math

import flask

from assistance.api.door import Door
from assistance.api.problem_types import RATE_LIMITED
from assistance.api.problems import Problem
from assistance.domain.allowance import Allowance
from assistance.domain.caller import ANONYMOUS, Caller

_WINDOW_SECONDS = 60


def limit_clients(app: flask.Flask, door: Door) -> None:
    """Count each call of a client before it is answered; comes after `identify_callers`."""

    @app.before_request
    def count() -> None:
        count_call(door, flask.g.get("caller", ANONYMOUS))

    @app.after_request
    def tell(answer: flask.Response) -> flask.Response:
        allowance: Allowance | None = flask.g.get("allowance")
        if allowance is not None:
            answer.headers["RateLimit-Policy"] = f'"client";q={allowance.quota};w={_WINDOW_SECONDS}'
            answer.headers["RateLimit"] = f'"client";r={allowance.remaining};t={_whole(allowance.reset_seconds)}'
        return answer


def count_call(door: Door, caller: Caller) -> None:
    """Count a call, also one that came within another. Raises `Problem` (rate-limited) when it is one too many."""
    allowance = door.admit(caller.client) if caller.client else None
    flask.g.allowance = allowance
    if allowance is not None and not allowance.admitted:
        detail = f"This client may make {allowance.quota} calls a minute, and has."
        raise too_many_calls(detail, allowance.reset_seconds)


def refuse_stranger(door: Door) -> None:
    """Count a credential that was refused. Raises `Problem` (rate-limited) when too many came from its address."""
    wait = door.stranger_wait(flask.request.remote_addr or "")
    if wait:
        raise too_many_calls("Too many credentials from this address were refused.", wait)


def too_many_calls(detail: str, wait_seconds: float) -> Problem:
    """The problem of a caller who has to wait."""
    return Problem(RATE_LIMITED, detail, headers={"Retry-After": str(_whole(wait_seconds))})


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))
