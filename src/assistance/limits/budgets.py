"""The shared line of each client, one row on the database's clock, and the limits that a client has of its own."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Text, bindparam, func, literal, select, true, update
from sqlalchemy.dialects.postgresql import insert

from assistance.domain.errors import ClientError
from assistance.limits.rate import Share, take_share
from assistance.runtime.clock import Deadline
from assistance.storage.database import Database
from assistance.storage.expressions import from_now, seconds
from assistance.storage.tables import budgets, clients

#: A caller waits for this; without an answer its process goes on by itself.
_DEADLINE_SECONDS = 1.0

_CLIENT = bindparam("client_name", type_=Text)
_OWN_QUOTA = select(clients.c.requests_per_minute).where(clients.c.name == _CLIENT).scalar_subquery()
_LOCK = (
    select(
        seconds(func.greatest(budgets.c.free_at, func.now()) - func.now()).label("debt"), _OWN_QUOTA.label("own_quota")
    )
    .where(budgets.c.client == _CLIENT)
    .with_for_update(of=budgets)
)
_FIRST = insert(budgets).values(client=_CLIENT, free_at=func.now()).on_conflict_do_nothing()
# What a crash of the server forgets is given a second time; nothing worse, and no share waits for the disk.
_IN_NO_HURRY = select(func.set_config(literal("synchronous_commit"), literal("off"), true()))


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnLimits:
    """The limits that a client has instead of those of the settings; none where it has none of its own."""

    calls_a_minute: int | None
    open_requests: int | None


def change_limits(connection: Connection, client: str, *, rate: int | None, most_open: int | None) -> OwnLimits:
    """Change a client's own limits, and tell them: none leaves one as it is, 0 removes it.

    Raises `ClientError` when there is no such client.
    """
    wanted = {"requests_per_minute": rate, "open_requests": most_open}
    changes = {name: value or None for name, value in wanted.items() if value is not None}
    row = connection.execute(
        update(clients)
        .where(clients.c.name == client)
        .values(name=client, **changes)
        .returning(clients.c.requests_per_minute, clients.c.open_requests)
    ).one_or_none()
    if row is None:
        raise ClientError(f"There is no client {client}.")
    return OwnLimits(calls_a_minute=row.requests_per_minute, open_requests=row.open_requests)


class Budgets:
    """Takes shares from the rows. `quota` is that of a client that has none of its own."""

    def __init__(self, database: Database, quota: int) -> None:
        self._database = database
        self._quota = quota

    def take(self, client: str, unused: int) -> Share:
        """The client's next share, without calls when none fits; `unused` calls of the last are given back.

        Raises `DatabaseUnavailable`.
        """

        def work(connection: Connection) -> Share:
            connection.execute(_IN_NO_HURRY)
            row = connection.execute(_LOCK, {"client_name": client}).one_or_none()
            if row is None:
                connection.execute(_FIRST, {"client_name": client})
                row = connection.execute(_LOCK, {"client_name": client}).one()
            share = take_share(row.own_quota or self._quota, row.debt, unused)
            if share.calls or unused:
                connection.execute(
                    update(budgets).where(budgets.c.client == client).values(free_at=from_now(share.debt))
                )
            return share

        return self._database.run(work, Deadline.after(_DEADLINE_SECONDS))
