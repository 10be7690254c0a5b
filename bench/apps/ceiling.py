"""The limit: a bare Flask view that reads the same body and gives the same answer, and stores nothing."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import flask

from bench.apps.view import answer

app = flask.Flask(__name__)
_NOW = "2026-03-04T14:02:00.048000Z"


@app.post("/assistance")
def ask() -> tuple[flask.Response, int, dict[str, str]]:
    return answer(str(uuid.uuid4()), flask.request.get_json(), datetime.now(UTC))


@app.get("/assistance/<name>")
def look(name: str) -> flask.Response:
    if flask.request.headers.get("If-None-Match"):
        return flask.Response(status=304)
    delivery = {
        "purpose": "notify",
        "event_version": 1,
        "channel": "sales-team",
        "step": 0,
        "state": "delivered",
        "attempts": 1,
        "next_attempt_at": None,
        "held": False,
        "receipt": {"status": 200, "webhook_id": "msg_" + "0" * 32 + "_1"},
        "last_error": None,
    }
    return flask.jsonify(
        id=name,
        ref="A-7F3K9Q",
        topic="sales",
        title=None,
        priority="normal",
        customer_id="cus_42",
        dedup_key=None,
        metadata={"order": "1"},
        status="delivered",
        state_version=2,
        not_before=None,
        expires_at=None,
        created_at=_NOW,
        updated_at=_NOW,
        ended_at=_NOW,
        links={"self": f"/assistance/{name}", "events": f"/assistance/{name}/events"},
        deliveries=[delivery],
    )
