"""What operators see and do: their sessions, bulk operations, the audit log, workers, and the history of the flow."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
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
from sqlalchemy.dialects.postgresql import ARRAY, UUID

from assistance.storage.tables.columns import instant, json_of, metadata, one_of

#: Who is signed in to the console. Only the SHA-256 of what the cookie holds is kept.
console_sessions = Table(
    "console_sessions",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("operator", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("key_prefix", Text),  # the key that opened it: the session ends when the key does
    instant("created_at", nullable=False, default_now=True),
    instant("seen_at", nullable=False, default_now=True),
    instant("expires_at", nullable=False),
    one_of("role", "viewer", "operator", "admin"),
    Index("console_sessions_expires_ix", "expires_at"),
)

#: Links that open the console once. Only their SHA-256 is kept.
console_links = Table(
    "console_links",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("operator", Text, nullable=False),
    Column("role", Text, nullable=False),
    instant("expires_at", nullable=False),
    one_of("role", "viewer", "operator", "admin"),
)

#: Refused attempts to sign in, by the address that they came from.
sign_in_failures = Table(
    "sign_in_failures",
    metadata,
    Column("address", Text, primary_key=True),
    Column("failures", Integer, nullable=False, server_default="1"),
    instant("last_at", nullable=False, default_now=True),
    instant("locked_until"),
    CheckConstraint("failures >= 1", name="failures"),
)

#: Filters that somebody gave a name to; those without an owner are everybody's.
saved_views = Table(
    "saved_views",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("owner", Text),
    Column("page", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("query", Text, nullable=False),
    instant("created_at", nullable=False, default_now=True),
    UniqueConstraint("owner", "page", "name", postgresql_nulls_not_distinct=True),
)

#: Acts on many things at once, carried out step by step. `through` is how far `carried_out` has come.
operations = Table(
    "operations",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("kind", Text, nullable=False),
    json_of("filter"),  # which things, as it was on screen
    json_of("parameters"),
    Column("reason", Text),
    Column("actor", Text, nullable=False),
    Column("via", Text, nullable=False),
    Column("request_id", Text),  # of the call that began it
    Column("state", Text, nullable=False, server_default="waiting"),
    Column("per_second", Double, nullable=False),
    Column("expected", Integer, nullable=False),  # how many there were when it began
    Column("upper_bound", Text, nullable=False),  # what came later is left alone
    Column("position", Text),  # the last thing that was looked at
    Column("done", Integer, nullable=False, server_default="0"),
    Column("refused", Integer, nullable=False, server_default="0"),
    json_of("errors"),  # a sentence, and how often it was the answer
    instant("created_at", nullable=False, default_now=True),
    instant("started_at"),
    instant("updated_at", nullable=False, default_now=True),
    instant("ended_at"),
    Column("cancelled_by", Text),
    one_of("kind", "replay", "discard", "cancel", "reroute", "resolve"),
    one_of("state", "waiting", "running", "done", "cancelled", "failed"),
    CheckConstraint("per_second > 0 AND expected >= 0 AND done >= 0 AND refused >= 0", name="counts"),
    CheckConstraint("(state IN ('done', 'cancelled', 'failed')) = (ended_at IS NOT NULL)", name="ended"),
    Index("operations_open_ix", "created_at", postgresql_where=text("ended_at IS NULL")),
    Index("operations_created_ix", "created_at"),
)

#: Who did what, written in the transaction of the act.
audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    instant("at", nullable=False, default_now=True),
    Column("actor", Text, nullable=False),
    Column("via", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject_kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    json_of("before", nullable=True),
    json_of("after", nullable=True),
    Column("reason", Text),
    Column("request_id", Text),
    Column("operation_id", UUID),
    one_of("via", "console", "command", "api"),
    one_of("subject_kind", "request", "delivery", "dead_letter", "channel", "operation", "session", "view"),
    Index("audit_at_ix", "at", "id"),
    Index("audit_subject_ix", "subject_kind", "subject"),
)

#: Processes that said lately that they are there. Nothing but what people see depends on it.
heartbeats = Table(
    "heartbeats",
    metadata,
    Column("worker", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("version", Text, nullable=False),
    Column("in_flight", Integer, nullable=False, server_default="0"),
    json_of("state"),
    instant("started_at", nullable=False),
    instant("seen_at", nullable=False, default_now=True),
    Index("heartbeats_seen_ix", "seen_at"),
)

#: What happened in a span of time, for each channel; the channel '' stands for requests as a whole.
history = Table(
    "history",
    metadata,
    Column("span_seconds", Integer, nullable=False),
    instant("begins_at", nullable=False),
    Column("channel", Text, nullable=False),
    Column("accepted", Integer, nullable=False, server_default="0"),
    Column("delivered", Integer, nullable=False, server_default="0"),
    Column("dead", Integer, nullable=False, server_default="0"),
    json_of("attempts"),  # by outcome, and for `retry_later` by class
    # How many were delivered within each of history.BOUNDS, and at last how many later.
    Column("latency", ARRAY(Integer), nullable=False, server_default=text("'{}'")),
    # As it stood at the end of the span, or at its worst where spans were merged.
    json_of("backlog"),
    Column("oldest_seconds", Double),
    Column("outbox", Integer),
    Column("outbox_oldest_seconds", Double),
    Column("breaker", Text),
    PrimaryKeyConstraint("span_seconds", "channel", "begins_at"),
    one_of("breaker", "closed", "half_open", "open", "paused"),
    CheckConstraint("accepted >= 0 AND delivered >= 0 AND dead >= 0", name="counts"),
    Index("history_begins_ix", "span_seconds", "begins_at"),
)
