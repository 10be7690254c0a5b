"""What probes ask: is the process alive, should it get calls, what is wrong, and how much is going on."""

from __future__ import annotations

import threading
from typing import Literal

import flask
import structlog
from pydantic import BaseModel

from assistance.api.answers import json_answer
from assistance.api.door import Dependency, Door
from assistance.api.operations import Answer, Operation
from assistance.api.problem_types import (
    FORBIDDEN,
    ISSUER_UNAVAILABLE,
    RATE_LIMITED,
    STORAGE_UNAVAILABLE,
    UNAUTHENTICATED,
)
from assistance.domain.errors import AssistanceError
from assistance.runtime.clock import monotonic
from assistance.runtime.metrics import exposition

log = structlog.get_logger()

_FRESH_SECONDS = 1.0


def add_routes(app: flask.Flask, door: Door) -> None:
    """Serve `/livez`, `/readyz`, `/health` and `/metrics`."""

    @app.get("/livez")
    def livez() -> flask.Response:
        return json_answer({"status": "ok"})

    @app.get("/readyz")
    def readyz() -> flask.Response:
        ready = door.ready()
        return json_answer({"status": "ok" if ready else "not-ready"}, http_status=200 if ready else 503)

    checks = {dependency.name: _Check(dependency) for dependency in door.dependencies}

    @app.get("/health")
    def health() -> flask.Response:
        errors = {name: check.error() for name, check in checks.items()}
        down = [dependency for dependency in door.dependencies if errors[dependency.name] is not None]
        closed = any(dependency.essential for dependency in down)
        return json_answer(
            {
                "status": "down" if closed else "degraded" if down else "ok",
                "dependencies": {
                    name: {"status": "ok" if error is None else "down", "detail": error}
                    for name, error in errors.items()
                },
            },
            http_status=503 if closed else 200,
        )

    @app.get("/metrics")
    def metrics() -> flask.Response:
        body, content_type = exposition(*door.collectors)
        return flask.Response(body, content_type=content_type)


class _Check:
    """What the check of a dependency said last. Thread-safe.

    It is made once a second, by one caller at a time: everybody may ask, and a server that is silent must not cost a
    thread for each who does.
    """

    def __init__(self, dependency: Dependency) -> None:
        self._dependency = dependency
        self._checking = threading.Lock()
        self._error: str | None = None
        self._fresh_until = float("-inf")

    def error(self) -> str | None:
        """What is wrong, or none; of an earlier moment while somebody else finds out."""
        nobody_knows = self._fresh_until == float("-inf")
        if monotonic() >= self._fresh_until and self._checking.acquire(blocking=nobody_knows):
            try:
                if monotonic() >= self._fresh_until:
                    self._error = _error_of(self._dependency)
                    self._fresh_until = monotonic() + _FRESH_SECONDS
            finally:
                self._checking.release()
        return self._error


def _error_of(dependency: Dependency) -> str | None:
    try:
        return dependency.check()
    except AssistanceError as error:
        return str(error)
    except Exception:
        # A check that breaks is no reason to leave the other dependencies untold.
        log.exception("api.check_failed", dependency=dependency.name)
        return "The check itself failed; the log says why."


class LifeAnswer(BaseModel):
    """The process is alive."""

    status: Literal["ok"]


class ReadinessAnswer(BaseModel):
    """Whether this process should get calls."""

    status: Literal["ok", "not-ready"]


class DependencyAnswer(BaseModel):
    """A server that the API leans on."""

    status: Literal["ok", "down"]
    detail: str | None


class HealthAnswer(BaseModel):
    """How the API is, and what it leans on."""

    status: Literal["ok", "degraded", "down"]
    dependencies: dict[str, DependencyAnswer]


OPERATIONS = (
    Operation(
        method="GET",
        path="/livez",
        name="livez",
        group="Beside it",
        summary="Is the process alive?",
        answers=(Answer(http_status=200, description="It is.", model=LifeAnswer),),
    ),
    Operation(
        method="GET",
        path="/readyz",
        name="readyz",
        group="Beside it",
        summary="Should this process get calls?",
        answers=(
            Answer(http_status=200, description="It should.", model=ReadinessAnswer),
            Answer(http_status=503, description="Not now.", model=ReadinessAnswer),
        ),
    ),
    Operation(
        method="GET",
        path="/health",
        name="health",
        group="Beside it",
        summary="What is out of order?",
        answers=(
            Answer(http_status=200, description="Requests are accepted.", model=HealthAnswer),
            Answer(http_status=503, description="No request can be accepted.", model=HealthAnswer),
        ),
    ),
    Operation(
        method="GET",
        path="/metrics",
        name="metrics",
        group="Beside it",
        summary="What is going on, for Prometheus",
        description="Callers on the machine itself need no credential, others one with the scope `view`.",
        answers=(Answer(http_status=200, description="The metrics.", media_type="text/plain"),),
        problems=(UNAUTHENTICATED, FORBIDDEN, RATE_LIMITED, ISSUER_UNAVAILABLE, STORAGE_UNAVAILABLE),
    ),
)
