"""Who calls, and what they may: clients with their keys, budgets and webhooks, and messages of signed sources."""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import ARRAY, UUID

from assistance.storage.tables.columns import instant, metadata

clients = Table(
    "clients",
    metadata,
    Column("name", Text, primary_key=True),
    instant("created_at", nullable=False, default_now=True),
    Column("requests_per_minute", Integer),  # none: the setting
    Column("open_requests", Integer),  # the most that may be open at once; none: the setting
    CheckConstraint("name ~ '^[a-z][a-z0-9-]{0,39}$'", name="name"),
    CheckConstraint("requests_per_minute > 0 AND open_requests > 0", name="limits"),
)

#: Keys are stored as their SHA-256: they are 32 random bytes, so nothing slower is needed.
client_keys = Table(
    "client_keys",
    metadata,
    Column("prefix", Text, primary_key=True),  # the readable part, with which people name a key
    Column("client", Text, ForeignKey("clients.name", ondelete="CASCADE"), nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    instant("created_at", nullable=False, default_now=True),
    instant("expires_at"),
    instant("revoked_at"),
    instant("last_used_at"),
    CheckConstraint(
        "scopes <@ ARRAY['submit', 'read', 'view', 'operate', 'admin'] AND cardinality(scopes) > 0", name="scopes"
    ),
    Index("client_keys_client_ix", "client"),
)

#: When the next call of a client fits its rate (the virtual schedule of GCRA), shared by all API processes.
budgets = Table(
    "budgets",
    metadata,
    Column("client", Text, primary_key=True),
    instant("free_at", nullable=False),
)

#: Where a client wants to be called back. The secret signs, so it is stored as it is.
webhooks = Table(
    "webhooks",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("client", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("previous_secret", Text),
    instant("previous_until"),
    Column("events", ARRAY(Text)),  # none: all of them
    instant("created_at", nullable=False, default_now=True),
    instant("disabled_at"),
    Column("disabled_reason", Text),
    CheckConstraint("(disabled_at IS NULL) = (disabled_reason IS NULL)", name="disabled"),
    UniqueConstraint("client", "url"),
)

#: What a signed source sent before, so that a repeat has no second effect.
source_messages = Table(
    "source_messages",
    metadata,
    Column("source", Text, nullable=False),
    Column("message_id", Text, nullable=False),
    instant("received_at", nullable=False, default_now=True),
    Column("request_id", UUID, ForeignKey("requests.id", ondelete="CASCADE")),
    PrimaryKeyConstraint("source", "message_id"),
    Index("source_messages_received_ix", "received_at"),
    Index("source_messages_request_ix", "request_id"),  # for the foreign key, when a request is purged
)
