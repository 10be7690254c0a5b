"""How values look in an answer."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import flask


def json_answer(body: Any, *, http_status: int = 200, content_type: str = "application/json") -> flask.Response:
    """A JSON answer; characters outside ASCII are escaped, so that no reader can get the encoding wrong."""
    text = json.dumps(body, separators=(",", ":"), allow_nan=False)
    return flask.Response(text + "\n", status=http_status, content_type=content_type)


def instant(value: datetime | None) -> str | None:
    """An instant in RFC 3339, UTC, to the microsecond; the same instant always gives the same text."""
    if value is None:
        return None
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
