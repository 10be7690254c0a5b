"""A message that says it is a test: a request of its own, to one channel."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import insert

from assistance.deliveries.start import start_deliveries
from assistance.runtime import ids
from assistance.storage.tables import requests

#: In whose name tests are asked for; a client's name has no colon.
CLIENT = "operators:test"
TOPIC = "test"


@dataclass(frozen=True, kw_only=True, slots=True)
class SentTest:
    """The request that a test made."""

    id: UUID
    ref: str


def send_test(connection: Connection, channel: str, *, by: str, digest: str, check_after: float) -> SentTest:
    """Ask for assistance on one channel in words that nobody takes for a customer's; `digest` is the configuration's.

    It goes the way of every other request: outbox, broker, consumer, pace and retries.
    """
    statement = insert(requests).values(
        id=ids.uuid7(),
        client=CLIENT,
        topic=TOPIC,
        title=f"Test of {channel}",
        description=f"This is a test of {channel}, sent by {by}. Nobody has to do anything.",
        route={"topic": TOPIC, "configuration": digest},
    )
    ref_is_new = statement.on_conflict_do_nothing(index_elements=["ref"]).returning(requests.c.id, requests.c.ref)
    row = None
    while row is None:  # two random refs were the same
        row = connection.execute(ref_is_new.values(ref=ids.new_ref())).one_or_none()
    start_deliveries(connection, row.id, [channel], step=0, check_after=check_after)
    return SentTest(id=row.id, ref=row.ref)
