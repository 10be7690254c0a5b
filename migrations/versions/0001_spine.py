"""The spine: requests, deliveries, attempts, events, outbox, timers, dead letters and idempotency keys."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

TABLES = """
CREATE TABLE requests (
    id UUID NOT NULL,
    ref TEXT NOT NULL,
    client TEXT DEFAULT '' NOT NULL,
    topic TEXT NOT NULL,
    description TEXT NOT NULL,
    priority TEXT DEFAULT 'normal' NOT NULL,
    customer_id TEXT,
    customer JSONB DEFAULT '{}'::jsonb NOT NULL,
    conversation_id TEXT,
    metadata JSONB DEFAULT '{}'::jsonb NOT NULL,
    status TEXT DEFAULT 'accepted' NOT NULL,
    handling TEXT,
    state_version INTEGER DEFAULT '1' NOT NULL,
    route JSONB DEFAULT '{}'::jsonb NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT requests_pk PRIMARY KEY (id),
    CONSTRAINT requests_priority_ck CHECK (priority IN ('low', 'normal', 'high', 'urgent')),
    CONSTRAINT requests_status_ck CHECK (status IN ('scheduled', 'accepted', 'delivered', 'undeliverable', 'cancelled', 'expired')),
    CONSTRAINT requests_handling_ck CHECK (handling IN ('acknowledged', 'resolved')),
    CONSTRAINT requests_state_version_ck CHECK (state_version >= 1),
    CONSTRAINT requests_ended_ck CHECK (ended_at IS NULL OR status NOT IN ('scheduled', 'accepted')),
    CONSTRAINT requests_ref_uq UNIQUE (ref)
);

CREATE INDEX requests_client_created_ix ON requests (client, created_at, id);

CREATE INDEX requests_ended_ix ON requests (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE timers (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    kind TEXT NOT NULL,
    subject UUID NOT NULL,
    due_at TIMESTAMP WITH TIME ZONE NOT NULL,
    data JSONB DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT timers_pk PRIMARY KEY (id),
    CONSTRAINT timers_kind_subject_uq UNIQUE (kind, subject)
);

CREATE INDEX timers_due_ix ON timers (due_at);

CREATE TABLE deliveries (
    id UUID NOT NULL,
    request_id UUID NOT NULL,
    event_version INTEGER DEFAULT '1' NOT NULL,
    purpose TEXT DEFAULT 'notify' NOT NULL,
    channel TEXT NOT NULL,
    step INTEGER DEFAULT '0' NOT NULL,
    required BOOLEAN DEFAULT true NOT NULL,
    destination JSONB,
    payload JSONB,
    state TEXT DEFAULT 'pending' NOT NULL,
    series INTEGER DEFAULT '1' NOT NULL,
    attempt INTEGER DEFAULT '0' NOT NULL,
    refunded INTEGER DEFAULT '0' NOT NULL,
    looks INTEGER DEFAULT '0' NOT NULL,
    first_attempt_at TIMESTAMP WITH TIME ZONE,
    next_attempt_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    lease_token UUID,
    lease_until TIMESTAMP WITH TIME ZONE,
    check_at TIMESTAMP WITH TIME ZONE,
    reconciled INTEGER DEFAULT '0' NOT NULL,
    receipt JSONB,
    last_error_class TEXT,
    last_error_code TEXT,
    last_error_detail TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT deliveries_pk PRIMARY KEY (id),
    CONSTRAINT deliveries_request_id_event_version_purpose_channel_step_uq UNIQUE (request_id, event_version, purpose, channel, step),
    CONSTRAINT deliveries_purpose_ck CHECK (purpose IN ('notify', 'follow_up', 'callback')),
    CONSTRAINT deliveries_state_ck CHECK (state IN ('pending', 'sending', 'unknown', 'delivered', 'dead', 'cancelled')),
    CONSTRAINT deliveries_numbers_ck CHECK (event_version >= 1 AND step >= 0 AND series >= 1),
    CONSTRAINT deliveries_counts_ck CHECK (attempt >= 0 AND refunded BETWEEN 0 AND attempt AND looks >= 0),
    CONSTRAINT deliveries_check_at_ck CHECK ((state IN ('pending', 'sending', 'unknown')) = (check_at IS NOT NULL)),
    CONSTRAINT deliveries_lease_ck CHECK ((lease_token IS NULL) = (lease_until IS NULL)),
    CONSTRAINT deliveries_lease_state_ck CHECK (lease_token IS NULL OR state IN ('sending', 'unknown')),
    CONSTRAINT deliveries_sending_ck CHECK (state <> 'sending' OR (lease_token IS NOT NULL AND check_at = lease_until)),
    CONSTRAINT deliveries_delivered_ck CHECK (state <> 'delivered' OR receipt IS NOT NULL),
    CONSTRAINT deliveries_dead_ck CHECK (state <> 'dead' OR last_error_class IS NOT NULL),
    CONSTRAINT deliveries_request_id_fk FOREIGN KEY(request_id) REFERENCES requests (id) ON DELETE CASCADE
);

CREATE INDEX deliveries_check_ix ON deliveries (check_at) WHERE check_at IS NOT NULL;

CREATE TABLE events (
    request_id UUID NOT NULL,
    version INTEGER NOT NULL,
    type TEXT NOT NULL,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    actor TEXT NOT NULL,
    data JSONB DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT events_pk PRIMARY KEY (request_id, version),
    CONSTRAINT events_version_ck CHECK (version >= 2),
    CONSTRAINT events_request_id_fk FOREIGN KEY(request_id) REFERENCES requests (id) ON DELETE CASCADE
);

CREATE TABLE idempotency_keys (
    client TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint BYTEA NOT NULL,
    request_id UUID NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT idempotency_keys_pk PRIMARY KEY (client, key),
    CONSTRAINT idempotency_keys_request_id_fk FOREIGN KEY(request_id) REFERENCES requests (id) ON DELETE CASCADE
);

CREATE INDEX idempotency_keys_created_ix ON idempotency_keys (created_at);

CREATE INDEX idempotency_keys_request_ix ON idempotency_keys (request_id);

CREATE TABLE attempts (
    delivery_id UUID NOT NULL,
    series INTEGER NOT NULL,
    number INTEGER NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE,
    outcome TEXT DEFAULT 'sending' NOT NULL,
    code TEXT,
    detail TEXT,
    receipt JSONB,
    worker TEXT NOT NULL,
    CONSTRAINT attempts_pk PRIMARY KEY (delivery_id, series, number),
    CONSTRAINT attempts_outcome_ck CHECK (outcome IN ('sending', 'delivered', 'retry_later', 'rejected', 'unknown')),
    CONSTRAINT attempts_finished_ck CHECK ((outcome = 'sending') = (finished_at IS NULL)),
    CONSTRAINT attempts_delivery_id_fk FOREIGN KEY(delivery_id) REFERENCES deliveries (id) ON DELETE CASCADE
);

CREATE TABLE dead_letters (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    delivery_id UUID,
    series INTEGER,
    channel TEXT,
    source TEXT NOT NULL,
    reason TEXT NOT NULL,
    error TEXT,
    message_id TEXT,
    body BYTEA,
    headers JSONB DEFAULT '{}'::jsonb NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    resolved_at TIMESTAMP WITH TIME ZONE,
    resolved_by TEXT,
    resolution TEXT,
    CONSTRAINT dead_letters_pk PRIMARY KEY (id),
    CONSTRAINT dead_letters_delivery_id_fk FOREIGN KEY(delivery_id) REFERENCES deliveries (id) ON DELETE SET NULL,
    CONSTRAINT dead_letters_source_ck CHECK (source IN ('consumer', 'relay', 'broker')),
    CONSTRAINT dead_letters_resolution_ck CHECK (resolution IN ('replayed', 'discarded')),
    CONSTRAINT dead_letters_resolved_ck CHECK ((resolved_at IS NULL) = (resolution IS NULL) AND (resolved_at IS NULL) = (resolved_by IS NULL))
);

CREATE INDEX dead_letters_created_ix ON dead_letters (created_at);

CREATE INDEX dead_letters_delivery_ix ON dead_letters (delivery_id);

CREATE UNIQUE INDEX dead_letters_open_ix ON dead_letters (delivery_id, series) WHERE resolved_at IS NULL AND delivery_id IS NOT NULL;

CREATE TABLE outbox (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    delivery_id UUID NOT NULL,
    series INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    request_id UUID NOT NULL,
    channel TEXT NOT NULL,
    headers JSONB DEFAULT '{}'::jsonb NOT NULL,
    available_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    refusals INTEGER DEFAULT '0' NOT NULL,
    last_error TEXT,
    CONSTRAINT outbox_pk PRIMARY KEY (id),
    CONSTRAINT outbox_delivery_id_series_attempt_uq UNIQUE (delivery_id, series, attempt),
    CONSTRAINT outbox_delivery_id_fk FOREIGN KEY(delivery_id) REFERENCES deliveries (id) ON DELETE CASCADE
)
 WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 10000, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX outbox_due_ix ON outbox (available_at, id);
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    op.execute("DROP TABLE outbox, dead_letters, attempts, idempotency_keys, events, deliveries, timers, requests")
