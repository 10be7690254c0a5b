"""`GET /assistance/<id>`: where a request is, with an `ETag` that changes whenever anything in the answer does."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import flask

from assistance.api.answers import instant, json_answer
from assistance.api.callers import the_caller
from assistance.api.door import Door
from assistance.api.problems import NOT_FOUND, Problem
from assistance.runtime.clock import Deadline

#: Only the usual way to write a UUID: `uuid.UUID` would also take braces, URNs and hyphens anywhere.
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def add_routes(app: flask.Flask, door: Door) -> None:
    """Serve the state of single requests."""

    @app.get("/assistance/<request_id>")
    def show(request_id: str) -> flask.Response:
        found = None
        if _UUID.fullmatch(request_id):
            deadline = Deadline.after(door.deadline_seconds)
            found = door.find(UUID(request_id), deadline, client=the_caller().sees)
        if found is None:
            raise Problem(NOT_FOUND, "No request has this id.")
        answer = json_answer(shown_request(found))
        answer.set_etag(hashlib.sha256(answer.get_data()).hexdigest()[:32])
        if flask.request.if_none_match.contains_weak(answer.get_etag()[0] or ""):
            answer.status_code = 304
            answer.set_data(b"")
            del answer.headers["Content-Type"], answer.headers["Content-Length"]
        return answer


def shown_request(request: Mapping[str, Any]) -> dict[str, Any]:
    """A request with its deliveries as bots see it."""
    return {
        "id": str(request["id"]),
        "ref": request["ref"],
        "topic": request["topic"],
        # One word for simple bots: what people did, as soon as they did something, else where the telling stands.
        "status": request["handling"] or request["status"],
        "state_version": request["state_version"],
        "created_at": instant(request["created_at"]),
        "updated_at": instant(request["updated_at"]),
        "ended_at": instant(request["ended_at"]),
        "deliveries": [_shown_delivery(delivery) for delivery in request["deliveries"]],
        "links": {"self": f"/assistance/{request['id']}"},
    }


def _shown_delivery(delivery: Mapping[str, Any]) -> dict[str, Any]:
    error = delivery["last_error"]
    return {
        "channel": delivery["channel"],
        "step": delivery["step"],
        "state": delivery["state"],
        "attempts": delivery["attempts"],
        "next_attempt_at": instant(delivery["next_attempt_at"]),
        "held": delivery["held"],
        "receipt": delivery["receipt"],
        "last_error": error and {name: error[name] for name in ("class", "code", "detail")},
    }
