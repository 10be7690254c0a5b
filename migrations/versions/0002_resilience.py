"""Resilience: held deliveries, repeats that say so, shared pauses, circuit breakers and paces."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

# Only additions with defaults: processes of the version before go on working while the new ones are started.
CHANGES = """
ALTER TABLE deliveries
    ADD COLUMN held_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN may_repeat BOOLEAN DEFAULT false NOT NULL,
    ADD COLUMN slot_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN paced_seconds DOUBLE PRECISION DEFAULT 0 NOT NULL,
    ADD COLUMN out_seconds_before DOUBLE PRECISION DEFAULT 0 NOT NULL,
    ADD CONSTRAINT deliveries_held_ck CHECK (held_at IS NULL OR (state = 'unknown' AND lease_token IS NULL));

CREATE INDEX deliveries_held_ix ON deliveries (held_at) WHERE held_at IS NOT NULL;

CREATE TABLE channel_states (
    channel TEXT NOT NULL,
    paused_at TIMESTAMP WITH TIME ZONE,
    paused_by TEXT,
    pause_cause TEXT,
    pause_reason TEXT,
    breaker TEXT DEFAULT 'closed' NOT NULL,
    breaker_reason TEXT,
    breaker_since TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    probe_at TIMESTAMP WITH TIME ZONE,
    out_since TIMESTAMP WITH TIME ZONE,
    out_seconds DOUBLE PRECISION DEFAULT 0 NOT NULL,
    back_at TIMESTAMP WITH TIME ZONE,
    checked_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT channel_states_pk PRIMARY KEY (channel),
    CONSTRAINT channel_states_pause_cause_ck CHECK (pause_cause IN ('operator', 'configuration')),
    CONSTRAINT channel_states_breaker_ck CHECK (breaker IN ('closed', 'open', 'half_open')),
    CONSTRAINT channel_states_paused_ck CHECK ((paused_at IS NULL) = (paused_by IS NULL) AND (paused_at IS NULL) = (pause_cause IS NULL) AND (paused_at IS NULL) = (pause_reason IS NULL)),
    CONSTRAINT channel_states_probe_at_ck CHECK ((breaker = 'closed') = (probe_at IS NULL)),
    CONSTRAINT channel_states_out_since_ck CHECK ((paused_at IS NULL AND breaker = 'closed') = (out_since IS NULL))
);

CREATE TABLE paces (
    channel TEXT NOT NULL,
    destination TEXT NOT NULL,
    next_slot_at TIMESTAMP WITH TIME ZONE NOT NULL,
    closed_until TIMESTAMP WITH TIME ZONE,
    CONSTRAINT paces_pk PRIMARY KEY (channel, destination)
);
"""


def upgrade() -> None:
    op.execute(CHANGES)


def downgrade() -> None:
    op.execute("DROP TABLE paces, channel_states")
    op.execute(
        "ALTER TABLE deliveries DROP COLUMN held_at, DROP COLUMN may_repeat, DROP COLUMN slot_at,"
        " DROP COLUMN paced_seconds, DROP COLUMN out_seconds_before"
    )
