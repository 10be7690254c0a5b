"""The application that `test_waiting_over_granian` has served: a flow in memory, where news can be posted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import flask

from assistance.api import events
from assistance.api.app import create_app
from assistance.runtime.signals import when_asked_to_stop
from tests.memory_door import MemoryDoor

SEATS = 4

events._COMMENT_SECONDS = 0.2
_flow = MemoryDoor()
_flow.seats = SEATS
_news = flask.Blueprint("news", __name__)


@_news.post("/news/<name>/<event>")
def news(name: str, event: str) -> str:
    ended: dict[str, Any] = {"status": "delivered", "ended_at": datetime.now(UTC)} if event == "delivered" else {}
    _flow.reading.happen(UUID(name), f"assistance.{event}", **ended)
    return "told"


wsgi = create_app(_flow.door(), extra_blueprints=[_news])
when_asked_to_stop(_flow.watcher.stop)
