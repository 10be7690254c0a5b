"""`POST /assistance`: parse, hand over, and answer 202 only once the flow says that it is on disk."""

from __future__ import annotations

import flask

from assistance.api.answers import instant, json_answer
from assistance.api.callers import the_caller
from assistance.api.door import Door
from assistance.api.idempotency import key_for
from assistance.api.parsing import read_json
from assistance.api.schema import parse_submission
from assistance.runtime.clock import Deadline

#: When a caller who wants to know more should ask for the first time.
_POLL_AFTER_SECONDS = 2


def add_routes(app: flask.Flask, door: Door) -> None:
    """Serve submissions."""

    @app.post("/assistance")
    def submit() -> flask.Response:
        body = read_json(flask.request)
        header = flask.request.headers.get("Idempotency-Key")
        key = None if header is None else key_for(header, "POST", "/assistance", body)
        submission = parse_submission(body, door.topics())
        # The deadline starts only here: a slow upload is the caller's time, not the database's.
        accepted = door.submit(submission, key, Deadline.after(door.deadline_seconds), client=the_caller().client)
        location = f"/assistance/{accepted.id}"
        answer = json_answer(
            {
                "id": str(accepted.id),
                "ref": accepted.ref,
                "topic": accepted.topic,
                "status": accepted.status,
                "created_at": instant(accepted.created_at),
                "links": {"self": location},
            },
            http_status=202,
        )
        answer.headers["Location"] = location
        answer.headers["Retry-After"] = str(_POLL_AFTER_SECONDS)
        if accepted.replayed:
            answer.headers["Idempotency-Replayed"] = "true"
        return answer
