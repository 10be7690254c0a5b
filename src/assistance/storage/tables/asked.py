"""What was asked: requests, what happened to them, and the keys that make a repeated call harmless."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

from assistance.storage.tables.columns import instant, json_of, metadata, one_of

requests = Table(
    "requests",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("ref", Text, nullable=False, unique=True),
    Column("client", Text, nullable=False, server_default=""),
    Column("topic", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("priority", Text, nullable=False, server_default="normal"),
    Column("customer_id", Text),
    json_of("customer"),
    Column("conversation_id", Text),
    json_of("metadata"),
    Column("status", Text, nullable=False, server_default="accepted"),
    Column("handling", Text),
    Column("state_version", Integer, nullable=False, server_default="1"),
    json_of("route"),
    instant("created_at", nullable=False, default_now=True),
    instant("updated_at", nullable=False, default_now=True),
    instant("ended_at"),
    one_of("priority", "low", "normal", "high", "urgent"),
    one_of("status", "scheduled", "accepted", "delivered", "undeliverable", "cancelled", "expired"),
    one_of("called_off", "cancelled", "expired"),
    one_of("handling", "acknowledged", "resolved"),
    CheckConstraint("state_version >= 1", name="state_version"),
    CheckConstraint("ended_at IS NULL OR status NOT IN ('scheduled', 'accepted')", name="ended"),
    Column("title", Text),
    json_of("bot"),
    json_of("conversation"),
    Column("transcript", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    Column("attachments", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    Column("dedup_key", Text),
    instant("not_before"),
    instant("expires_at"),
    Column("callback_url", Text),
    Column("called_off", Text),  # nobody is to be told any more, because of the bot or because it came too late
    Column("open_dedup_key", Text),  # the `dedup_key` until the request ends: a second call with it joins the request
    Index("requests_client_created_ix", "client", "created_at", "id"),
    Index("requests_created_ix", "created_at", "id"),  # for those who see the requests of everybody
    Index("requests_open_ix", "client", postgresql_where=text("ended_at IS NULL")),
    Index("requests_customer_ix", "client", "customer_id", postgresql_where=text("customer_id IS NOT NULL")),
    Index(
        "requests_dedup_ix",
        "client",
        "open_dedup_key",
        unique=True,
        postgresql_where=text("open_dedup_key IS NOT NULL"),
    ),
    Index(  # for people who look for what is rare
        "requests_unusual_ix",
        "status",
        "created_at",
        "id",
        postgresql_where=text("status NOT IN ('accepted', 'delivered')"),
    ),
    Index("requests_ended_ix", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
)

events = Table(
    "events",
    metadata,
    Column("request_id", UUID, ForeignKey("requests.id", ondelete="CASCADE"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("type", Text, nullable=False),
    instant("at", nullable=False, default_now=True),
    Column("actor", Text, nullable=False),
    json_of("data"),
    PrimaryKeyConstraint("request_id", "version"),
    CheckConstraint("version >= 2", name="version"),  # the request row itself is event 1
)

timers = Table(
    "timers",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("subject", UUID, nullable=False),
    instant("due_at", nullable=False),
    json_of("data"),
    UniqueConstraint("kind", "subject"),
    Index("timers_due_ix", "due_at"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("client", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("request_id", UUID, ForeignKey("requests.id", ondelete="CASCADE"), nullable=False),
    instant("created_at", nullable=False, default_now=True),
    Column("event_version", Integer, nullable=False, server_default="1"),  # what the call made: 1 is the request
    PrimaryKeyConstraint("client", "key"),
    Index("idempotency_keys_created_ix", "created_at"),
    Index("idempotency_keys_request_ix", "request_id"),  # for the foreign key, when a request is purged
)
