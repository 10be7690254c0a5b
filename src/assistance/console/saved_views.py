"""Filters that somebody gave a name to: own ones, and those that everybody sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, or_, select
from sqlalchemy.dialects.postgresql import insert

from assistance.domain.errors import AssistanceError
from assistance.storage.plain import plain_text
from assistance.storage.tables import saved_views

LONGEST_NAME = 60
_MOST = 100


class ViewRefused(AssistanceError):
    """This view cannot be saved."""


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """A saved filter; `query` is the canonical one. Shared ones have no owner."""

    id: int
    owner: str | None
    name: str
    query: str


def views_of(connection: Connection, page: str, owner: str) -> Sequence[View]:
    """The own and the shared views of a page, by name, the own ones first."""
    seen = or_(saved_views.c.owner == owner, saved_views.c.owner.is_(None))
    order = (saved_views.c.owner.is_(None), func.lower(saved_views.c.name), saved_views.c.id)
    rows = connection.execute(select(saved_views).where(saved_views.c.page == page, seen).order_by(*order))
    return [View(id=row.id, owner=row.owner, name=row.name, query=row.query) for row in rows]


def save_view(connection: Connection, page: str, owner: str | None, name: str, query: str) -> int:
    """Keep a filter under a name; one of that name is replaced. Without an owner it is everybody's.

    Raises `ViewRefused` for a name that is none, and when there are as many as one may have.
    """
    name = " ".join(plain_text(name).split())
    if not 0 < len(name) <= LONGEST_NAME:
        raise ViewRefused(f"The name of a view has 1 to {LONGEST_NAME} characters.")
    mine = saved_views.c.owner.is_not_distinct_from(owner)
    others = select(func.count()).where(saved_views.c.page == page, mine, saved_views.c.name != name)
    if (connection.scalar(others) or 0) >= _MOST:
        raise ViewRefused(f"There are {_MOST} views already: delete one first.")
    new = insert(saved_views).values(owner=owner, page=page, name=name, query=query)
    kept = new.on_conflict_do_update(
        index_elements=["owner", "page", "name"], set_={"query": new.excluded.query, "created_at": func.now()}
    )
    return int(connection.execute(kept.returning(saved_views.c.id)).scalar_one())


def delete_view(connection: Connection, page: str, view_id: int, *, owner: str, may_delete_shared: bool) -> View | None:
    """Forget a view; the one that is gone, or none when there was none that this person may delete."""
    may = saved_views.c.owner == owner
    if may_delete_shared:
        may = or_(may, saved_views.c.owner.is_(None))
    gone = connection.execute(
        delete(saved_views)
        .where(saved_views.c.id == view_id, saved_views.c.page == page, may)
        .returning(saved_views.c.id, saved_views.c.owner, saved_views.c.name, saved_views.c.query)
    ).one_or_none()
    return None if gone is None else View(id=gone.id, owner=gone.owner, name=gone.name, query=gone.query)
