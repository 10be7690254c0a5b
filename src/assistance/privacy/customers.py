"""Whose requests: the id of a customer means something within one client only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, select

from assistance.storage.tables import requests


@dataclass(frozen=True, kw_only=True, slots=True)
class Customer:
    """Somebody as one client knows them."""

    client: str
    id: str

    @property
    def owns(self) -> ColumnElement[bool]:
        """The condition on `requests`."""
        return (requests.c.client == self.client) & (requests.c.customer_id == self.id)


def clients_with(connection: Connection, customer_id: str) -> Sequence[str]:
    """The clients that sent requests of a customer with this id; it looks through a whole index."""
    names = select(requests.c.client).where(requests.c.customer_id == customer_id).distinct()
    return connection.scalars(names.order_by(requests.c.client)).all()


def next_requests(connection: Connection, customer: Customer, after: UUID | None, most: int) -> Sequence[UUID]:
    """The ids of the customer's next requests, in their order."""
    found = select(requests.c.id).where(customer.owns).order_by(requests.c.id).limit(most)
    return connection.scalars(found if after is None else found.where(requests.c.id > after)).all()
