"""The obvious way: one transaction for each call, through SQLAlchemy, with the same rows as ours."""

from __future__ import annotations

from sqlalchemy import Connection, insert

from assistance.storage.tables import outbox
from bench.apps.view import Stored, in_one_transaction, storing_app
from bench.payload import CHANNEL


def _hint(connection: Connection, stored: Stored) -> None:
    connection.execute(
        insert(outbox).values(
            delivery_id=stored.delivery_id, series=1, attempt=1, request_id=stored.request_id, channel=CHANNEL
        )
    )


app = storing_app(in_one_transaction(_hint))
