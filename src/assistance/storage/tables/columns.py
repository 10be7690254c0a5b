"""What the tables share: names of constraints, and kinds of columns."""

from __future__ import annotations

from typing import Any

from sqlalchemy import CheckConstraint, Column, DateTime, Double, MetaData, text
from sqlalchemy.dialects.postgresql import JSONB

#: The Alembic revision that creates exactly these tables; every process refuses a database at another one.
SCHEMA_REVISION = "0004"

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pk",
        "fk": "%(table_name)s_%(column_0_name)s_fk",
        "uq": "%(table_name)s_%(column_0_N_name)s_uq",
        "ck": "%(table_name)s_%(constraint_name)s_ck",
    }
)


def instant(name: str, *, nullable: bool = True, default_now: bool = False) -> Column[Any]:
    """A moment, with its time zone."""
    default = text("now()") if default_now else None
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=default)


def one_of(column: str, *values: str) -> CheckConstraint:
    """The column holds one of these words."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def seconds(name: str) -> Column[Any]:
    """A duration in seconds, 0 unless it is said."""
    return Column(name, Double, nullable=False, server_default=text("0"))


def json_of(name: str, *, nullable: bool = False) -> Column[Any]:
    """A JSON value, an empty object unless it is said or may be null."""
    return Column(name, JSONB, nullable=nullable, server_default=None if nullable else text("'{}'::jsonb"))
