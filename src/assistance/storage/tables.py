"""The tables of the flow. `migrations/` creates them; a test proves that both say the same.

Constraints make wrong states impossible: see docs/flow.md for the state machines that they guard. Instants are
`timestamptz`, written with the database's own `now()`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

#: The Alembic revision that creates exactly these tables; every process refuses a database at another one.
SCHEMA_REVISION = "0002"

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pk",
        "fk": "%(table_name)s_%(column_0_name)s_fk",
        "uq": "%(table_name)s_%(column_0_N_name)s_uq",
        "ck": "%(table_name)s_%(constraint_name)s_ck",
    }
)


def _instant(name: str, *, nullable: bool = True, default_now: bool = False) -> Column[Any]:
    default = text("now()") if default_now else None
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=default)


def _one_of(column: str, *values: str) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def _seconds(name: str) -> Column[Any]:
    return Column(name, Double, nullable=False, server_default=text("0"))


def _json(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, JSONB, nullable=nullable, server_default=None if nullable else text("'{}'::jsonb"))


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
    _json("customer"),
    Column("conversation_id", Text),
    _json("metadata"),
    Column("status", Text, nullable=False, server_default="accepted"),
    Column("handling", Text),
    Column("state_version", Integer, nullable=False, server_default="1"),
    _json("route"),
    _instant("created_at", nullable=False, default_now=True),
    _instant("updated_at", nullable=False, default_now=True),
    _instant("ended_at"),
    _one_of("priority", "low", "normal", "high", "urgent"),
    _one_of("status", "scheduled", "accepted", "delivered", "undeliverable", "cancelled", "expired"),
    _one_of("handling", "acknowledged", "resolved"),
    CheckConstraint("state_version >= 1", name="state_version"),
    CheckConstraint("ended_at IS NULL OR status NOT IN ('scheduled', 'accepted')", name="ended"),
    Index("requests_client_created_ix", "client", "created_at", "id"),
    Index("requests_ended_ix", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("request_id", UUID, ForeignKey("requests.id", ondelete="CASCADE"), nullable=False),
    Column("event_version", Integer, nullable=False, server_default="1"),
    Column("purpose", Text, nullable=False, server_default="notify"),
    Column("channel", Text, nullable=False),
    Column("step", Integer, nullable=False, server_default="0"),
    Column("required", Boolean, nullable=False, server_default=text("true")),
    _json("destination", nullable=True),
    _json("payload", nullable=True),
    Column("state", Text, nullable=False, server_default="pending"),
    Column("series", Integer, nullable=False, server_default="1"),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("refunded", Integer, nullable=False, server_default="0"),
    Column("looks", Integer, nullable=False, server_default="0"),
    _instant("first_attempt_at"),
    _instant("next_attempt_at", nullable=False, default_now=True),
    Column("lease_token", UUID),
    _instant("lease_until"),
    _instant("check_at"),
    Column("reconciled", Integer, nullable=False, server_default="0"),
    _json("receipt", nullable=True),
    Column("last_error_class", Text),
    Column("last_error_code", Text),
    Column("last_error_detail", Text),
    _instant("created_at", nullable=False, default_now=True),
    _instant("updated_at", nullable=False, default_now=True),
    _instant("held_at"),  # its outcome is unknown and an operator has to say what became of it
    Column("may_repeat", Boolean, nullable=False, server_default=text("false")),  # and the message says so
    _instant("slot_at"),  # the moment that the pace of its destination gave it
    _seconds("paced_seconds"),  # spent waiting for slots since the first attempt of the series
    _seconds("out_seconds_before"),  # the channel's `out_seconds` at the first attempt of the series
    UniqueConstraint("request_id", "event_version", "purpose", "channel", "step"),
    _one_of("purpose", "notify", "follow_up", "callback"),
    _one_of("state", "pending", "sending", "unknown", "delivered", "dead", "cancelled"),
    CheckConstraint("event_version >= 1 AND step >= 0 AND series >= 1", name="numbers"),
    CheckConstraint("attempt >= 0 AND refunded BETWEEN 0 AND attempt AND looks >= 0", name="counts"),
    # The dead-man switch: what is not finished is looked at again, whatever happens.
    CheckConstraint("(state IN ('pending', 'sending', 'unknown')) = (check_at IS NOT NULL)", name="check_at"),
    CheckConstraint("(lease_token IS NULL) = (lease_until IS NULL)", name="lease"),
    CheckConstraint("lease_token IS NULL OR state IN ('sending', 'unknown')", name="lease_state"),
    CheckConstraint("state <> 'sending' OR (lease_token IS NOT NULL AND check_at = lease_until)", name="sending"),
    CheckConstraint("state <> 'delivered' OR receipt IS NOT NULL", name="delivered"),
    CheckConstraint("state <> 'dead' OR last_error_class IS NOT NULL", name="dead"),
    CheckConstraint("held_at IS NULL OR (state = 'unknown' AND lease_token IS NULL)", name="held"),
    Index("deliveries_check_ix", "check_at", postgresql_where=text("check_at IS NOT NULL")),
    Index("deliveries_held_ix", "held_at", postgresql_where=text("held_at IS NOT NULL")),
)

#: What all consumers of a channel share: whether it is paused, and its circuit breaker. No row: nothing ever happened.
channel_states = Table(
    "channel_states",
    metadata,
    Column("channel", Text, primary_key=True),
    _instant("paused_at"),
    Column("paused_by", Text),
    Column("pause_cause", Text),
    Column("pause_reason", Text),
    Column("breaker", Text, nullable=False, server_default="closed"),
    Column("breaker_reason", Text),
    _instant("breaker_since", nullable=False, default_now=True),
    _instant("probe_at"),  # when the next probe may begin
    _instant("out_since"),  # since when nothing is sent, because of a pause or the breaker
    _seconds("out_seconds"),  # the sum of all earlier such times
    _instant("back_at"),  # when the last such time ended
    _instant("checked_at"),  # when the configuration of a channel that is paused because of it was last checked
    _one_of("pause_cause", "operator", "configuration"),
    _one_of("breaker", "closed", "open", "half_open"),
    CheckConstraint(
        "(paused_at IS NULL) = (paused_by IS NULL) AND (paused_at IS NULL) = (pause_cause IS NULL)"
        " AND (paused_at IS NULL) = (pause_reason IS NULL)",
        name="paused",
    ),
    CheckConstraint("(breaker = 'closed') = (probe_at IS NULL)", name="probe_at"),
    CheckConstraint("(paused_at IS NULL AND breaker = 'closed') = (out_since IS NULL)", name="out_since"),
)

#: One row per destination with a pace, shared by all consumers: when its next message may go out.
paces = Table(
    "paces",
    metadata,
    Column("channel", Text, nullable=False),
    Column("destination", Text, nullable=False),
    _instant("next_slot_at", nullable=False),
    _instant("closed_until"),  # its provider asked for a pause; slots given for an earlier moment are void
    PrimaryKeyConstraint("channel", "destination"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("delivery_id", UUID, ForeignKey("deliveries.id", ondelete="CASCADE"), nullable=False),
    Column("series", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    _instant("started_at", nullable=False, default_now=True),
    _instant("finished_at"),
    Column("outcome", Text, nullable=False, server_default="sending"),
    Column("code", Text),
    Column("detail", Text),
    _json("receipt", nullable=True),
    Column("worker", Text, nullable=False),
    PrimaryKeyConstraint("delivery_id", "series", "number"),
    _one_of("outcome", "sending", "delivered", "retry_later", "rejected", "unknown"),
    CheckConstraint("(outcome = 'sending') = (finished_at IS NULL)", name="finished"),
)

events = Table(
    "events",
    metadata,
    Column("request_id", UUID, ForeignKey("requests.id", ondelete="CASCADE"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("type", Text, nullable=False),
    _instant("at", nullable=False, default_now=True),
    Column("actor", Text, nullable=False),
    _json("data"),
    PrimaryKeyConstraint("request_id", "version"),
    CheckConstraint("version >= 2", name="version"),  # the request row itself is event 1
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("delivery_id", UUID, ForeignKey("deliveries.id", ondelete="CASCADE"), nullable=False),
    Column("series", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("request_id", UUID, nullable=False),
    Column("channel", Text, nullable=False),
    _json("headers"),
    _instant("available_at", nullable=False, default_now=True),
    _instant("created_at", nullable=False, default_now=True),
    Column("refusals", Integer, nullable=False, server_default="0"),
    Column("last_error", Text),
    UniqueConstraint("delivery_id", "series", "attempt"),
    Index("outbox_due_ix", "available_at", "id"),
    # Rows live for milliseconds and die in masses: the defaults of autovacuum would let the table bloat.
    postgresql_with={
        "autovacuum_vacuum_scale_factor": "0",
        "autovacuum_vacuum_threshold": "1000",
        "autovacuum_vacuum_insert_scale_factor": "0",
        "autovacuum_vacuum_insert_threshold": "10000",
        "autovacuum_analyze_scale_factor": "0",
        "autovacuum_analyze_threshold": "5000",
        "autovacuum_vacuum_cost_delay": "0",
    },
)

timers = Table(
    "timers",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("subject", UUID, nullable=False),
    _instant("due_at", nullable=False),
    _json("data"),
    UniqueConstraint("kind", "subject"),
    Index("timers_due_ix", "due_at"),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("delivery_id", UUID),
    Column("series", Integer),
    Column("channel", Text),
    Column("source", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("error", Text),
    Column("message_id", Text),
    Column("body", LargeBinary),
    _json("headers"),
    _instant("created_at", nullable=False, default_now=True),
    _instant("resolved_at"),
    Column("resolved_by", Text),
    Column("resolution", Text),
    ForeignKeyConstraint(["delivery_id"], ["deliveries.id"], ondelete="SET NULL"),
    _one_of("source", "consumer", "relay", "broker"),
    _one_of("resolution", "replayed", "discarded"),
    CheckConstraint(
        "(resolved_at IS NULL) = (resolution IS NULL) AND (resolved_at IS NULL) = (resolved_by IS NULL)",
        name="resolved",
    ),
    Index(
        "dead_letters_open_ix",
        "delivery_id",
        "series",
        unique=True,
        postgresql_where=text("resolved_at IS NULL AND delivery_id IS NOT NULL"),
    ),
    Index("dead_letters_created_ix", "created_at"),
    Index("dead_letters_delivery_ix", "delivery_id"),  # for the foreign key, when a request is purged
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("client", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("request_id", UUID, ForeignKey("requests.id", ondelete="CASCADE"), nullable=False),
    _instant("created_at", nullable=False, default_now=True),
    PrimaryKeyConstraint("client", "key"),
    Index("idempotency_keys_created_ix", "created_at"),
    Index("idempotency_keys_request_ix", "request_id"),  # for the foreign key, when a request is purged
)
