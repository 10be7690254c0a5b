"""How it is told: deliveries, their attempts and hints, dead letters, and the state of channels."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
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
from sqlalchemy.dialects.postgresql import UUID

from assistance.storage.tables.columns import instant, json_of, metadata, one_of, seconds

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
    json_of("destination", nullable=True),
    json_of("payload", nullable=True),
    Column("state", Text, nullable=False, server_default="pending"),
    Column("series", Integer, nullable=False, server_default="1"),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("refunded", Integer, nullable=False, server_default="0"),
    Column("looks", Integer, nullable=False, server_default="0"),
    instant("first_attempt_at"),
    instant("next_attempt_at", nullable=False, default_now=True),
    Column("lease_token", UUID),
    instant("lease_until"),
    instant("check_at"),
    Column("reconciled", Integer, nullable=False, server_default="0"),
    json_of("receipt", nullable=True),
    Column("last_error_class", Text),
    Column("last_error_code", Text),
    Column("last_error_detail", Text),
    instant("created_at", nullable=False, default_now=True),
    instant("updated_at", nullable=False, default_now=True),
    instant("held_at"),  # its outcome is unknown and an operator has to say what became of it
    Column("may_repeat", Boolean, nullable=False, server_default=text("false")),  # and the message says so
    instant("slot_at"),  # the moment that the pace of its destination gave it
    seconds("paced_seconds"),  # spent waiting for slots since the first attempt of the series
    seconds("out_seconds_before"),  # the channel's `out_seconds` at the first attempt of the series
    UniqueConstraint("request_id", "event_version", "purpose", "channel", "step"),
    one_of("purpose", "notify", "follow_up", "callback"),
    one_of("state", "pending", "sending", "unknown", "delivered", "dead", "cancelled"),
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
    instant("paused_at"),
    Column("paused_by", Text),
    Column("pause_cause", Text),
    Column("pause_reason", Text),
    Column("breaker", Text, nullable=False, server_default="closed"),
    Column("breaker_reason", Text),
    instant("breaker_since", nullable=False, default_now=True),
    instant("probe_at"),  # when the next probe may begin
    instant("out_since"),  # since when nothing is sent, because of a pause or the breaker
    seconds("out_seconds"),  # the sum of all earlier such times
    instant("back_at"),  # when the last such time ended
    instant("checked_at"),  # when the configuration of a channel that is paused because of it was last checked
    one_of("pause_cause", "operator", "configuration"),
    one_of("breaker", "closed", "open", "half_open"),
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
    instant("next_slot_at", nullable=False),
    instant("closed_until"),  # its provider asked for a pause; slots given for an earlier moment are void
    PrimaryKeyConstraint("channel", "destination"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("delivery_id", UUID, ForeignKey("deliveries.id", ondelete="CASCADE"), nullable=False),
    Column("series", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    instant("started_at", nullable=False, default_now=True),
    instant("finished_at"),
    Column("outcome", Text, nullable=False, server_default="sending"),
    Column("code", Text),
    Column("detail", Text),
    json_of("receipt", nullable=True),
    Column("worker", Text, nullable=False),
    PrimaryKeyConstraint("delivery_id", "series", "number"),
    one_of("outcome", "sending", "delivered", "retry_later", "rejected", "unknown"),
    CheckConstraint("(outcome = 'sending') = (finished_at IS NULL)", name="finished"),
    # Rows come in the order of their time, so that an index of ranges finds the last minutes, and costs nothing.
    Index(
        "attempts_started_ix",
        "started_at",
        postgresql_using="brin",
        postgresql_with={"pages_per_range": 16, "autosummarize": "on"},
    ),
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
    json_of("headers"),
    instant("available_at", nullable=False, default_now=True),
    instant("created_at", nullable=False, default_now=True),
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
    json_of("headers"),
    instant("created_at", nullable=False, default_now=True),
    instant("resolved_at"),
    Column("resolved_by", Text),
    Column("resolution", Text),
    ForeignKeyConstraint(["delivery_id"], ["deliveries.id"], ondelete="SET NULL"),
    one_of("source", "consumer", "relay", "broker", "source"),
    one_of("resolution", "replayed", "discarded"),
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
    # Resolved ones are kept for months: whoever looks for the open ones must not read past all of them.
    Index("dead_letters_unresolved_ix", "created_at", "id", postgresql_where=text("resolved_at IS NULL")),
    Index("dead_letters_delivery_ix", "delivery_id"),  # for the foreign key, when a request is purged
)
