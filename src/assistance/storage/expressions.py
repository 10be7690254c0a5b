"""SQL expressions about time, always on the database's own clock."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Float, func, text


def from_now(seconds: float) -> ColumnElement[datetime]:
    """The instant that lies `seconds` after the start of this transaction."""
    return func.now() + text("make_interval(secs => :seconds_from_now)").bindparams(seconds_from_now=seconds)


def seconds(interval: ColumnElement[Any]) -> ColumnElement[float]:
    """An interval as a number of seconds."""
    return func.extract("epoch", interval).cast(Float)
