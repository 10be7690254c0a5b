"""What probes ask: is the process alive, should it get calls, what is wrong, and how much is going on."""

from __future__ import annotations

import flask
import structlog

from assistance.api.answers import json_answer
from assistance.api.door import Dependency, Door
from assistance.domain.errors import AssistanceError
from assistance.runtime.metrics import exposition

log = structlog.get_logger()


def add_routes(app: flask.Flask, door: Door) -> None:
    """Serve `/livez`, `/readyz`, `/health` and `/metrics`."""

    @app.get("/livez")
    def livez() -> flask.Response:
        return json_answer({"status": "ok"})

    @app.get("/readyz")
    def readyz() -> flask.Response:
        ready = door.ready()
        return json_answer({"status": "ok" if ready else "not-ready"}, http_status=200 if ready else 503)

    @app.get("/health")
    def health() -> flask.Response:
        errors = {dependency.name: _error_of(dependency) for dependency in door.dependencies}
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


def _error_of(dependency: Dependency) -> str | None:
    try:
        return dependency.check()
    except AssistanceError as error:
        return str(error)
    except Exception:
        # A check that breaks is no reason to leave the other dependencies untold.
        log.exception("api.check_failed", dependency=dependency.name)
        return "The check itself failed; the log says why."
