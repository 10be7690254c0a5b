"""SQL expressions: times, always on the database's own clock, and rows that a statement is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, Float, Interval, TableValuedAlias, bindparam, column, func, literal
from sqlalchemy.types import TypeEngine


def from_now(seconds: float) -> ColumnElement[datetime]:
    """The instant that lies `seconds` after the start of this transaction; one statement may hold several."""
    return func.now() + duration(seconds)


def duration(seconds: float) -> ColumnElement[timedelta]:
    """A number of seconds as an interval."""
    return literal(timedelta(seconds=seconds), Interval)


def seconds(interval: ColumnElement[Any]) -> ColumnElement[float]:
    """An interval as a number of seconds."""
    return func.extract("epoch", interval).cast(Float)


def given(name: str, /, **columns: type[TypeEngine[Any]]) -> TableValuedAlias:
    """Rows that a statement is given as an array for each of their columns; see `as_arrays`."""
    arrays = [bindparam(f"{name}_{column_name}", type_=ARRAY(kind)) for column_name, kind in columns.items()]
    named = [column(column_name, kind) for column_name, kind in columns.items()]
    return func.unnest(*arrays).table_valued(*named).render_derived(name)


def as_arrays(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The parameters that fill what is `given` under this name with rows, of which there is at least one."""
    return {f"{name}_{column_name}": [row[column_name] for row in rows] for column_name in rows[0]}
