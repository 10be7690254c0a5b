"""SQL expressions about time, always on the database's own clock."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Float, Interval, func, literal


def from_now(seconds: float) -> ColumnElement[datetime]:
    """The instant that lies `seconds` after the start of this transaction; one statement may hold several."""
    return func.now() + duration(seconds)


def duration(seconds: float) -> ColumnElement[timedelta]:
    """A number of seconds as an interval."""
    return literal(timedelta(seconds=seconds), Interval)


def seconds(interval: ColumnElement[Any]) -> ColumnElement[float]:
    """An interval as a number of seconds."""
    return func.extract("epoch", interval).cast(Float)
