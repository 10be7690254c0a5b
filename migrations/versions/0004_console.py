"""The console: sessions of operators, bulk operations, the audit log, workers, and the history of the flow."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"

# Only additions: processes of the version before go on working while the new ones are started.
CHANGES = """
CREATE INDEX requests_unusual_ix ON requests (status, created_at, id) WHERE status NOT IN ('accepted', 'delivered');

CREATE INDEX dead_letters_unresolved_ix ON dead_letters (created_at, id) WHERE resolved_at IS NULL;

CREATE INDEX attempts_started_ix ON attempts USING brin (started_at) WITH (pages_per_range = 16, autosummarize = on);

ALTER TABLE client_keys
    DROP CONSTRAINT client_keys_scopes_ck,
    ADD CONSTRAINT client_keys_scopes_ck
        CHECK (scopes <@ ARRAY['submit', 'read', 'view', 'operate', 'admin'] AND cardinality(scopes) > 0);

CREATE TABLE console_sessions (
    digest BYTEA NOT NULL,
    operator TEXT NOT NULL,
    role TEXT NOT NULL,
    key_prefix TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    seen_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT console_sessions_pk PRIMARY KEY (digest),
    CONSTRAINT console_sessions_role_ck CHECK (role IN ('viewer', 'operator', 'admin'))
);

CREATE INDEX console_sessions_expires_ix ON console_sessions (expires_at);

CREATE TABLE console_links (
    digest BYTEA NOT NULL,
    operator TEXT NOT NULL,
    role TEXT NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT console_links_pk PRIMARY KEY (digest),
    CONSTRAINT console_links_role_ck CHECK (role IN ('viewer', 'operator', 'admin'))
);

CREATE TABLE sign_in_failures (
    address TEXT NOT NULL,
    failures INTEGER DEFAULT '1' NOT NULL,
    last_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    locked_until TIMESTAMP WITH TIME ZONE,
    CONSTRAINT sign_in_failures_pk PRIMARY KEY (address),
    CONSTRAINT sign_in_failures_failures_ck CHECK (failures >= 1)
);

CREATE TABLE saved_views (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    owner TEXT,
    page TEXT NOT NULL,
    name TEXT NOT NULL,
    query TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT saved_views_pk PRIMARY KEY (id),
    CONSTRAINT saved_views_owner_page_name_uq UNIQUE NULLS NOT DISTINCT (owner, page, name)
);

CREATE TABLE operations (
    id UUID NOT NULL,
    kind TEXT NOT NULL,
    filter JSONB DEFAULT '{}'::jsonb NOT NULL,
    parameters JSONB DEFAULT '{}'::jsonb NOT NULL,
    reason TEXT,
    actor TEXT NOT NULL,
    via TEXT NOT NULL,
    request_id TEXT,
    state TEXT DEFAULT 'waiting' NOT NULL,
    per_second DOUBLE PRECISION NOT NULL,
    expected INTEGER NOT NULL,
    upper_bound TEXT NOT NULL,
    position TEXT,
    done INTEGER DEFAULT '0' NOT NULL,
    refused INTEGER DEFAULT '0' NOT NULL,
    errors JSONB DEFAULT '{}'::jsonb NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE,
    cancelled_by TEXT,
    CONSTRAINT operations_pk PRIMARY KEY (id),
    CONSTRAINT operations_kind_ck CHECK (kind IN ('replay', 'discard', 'cancel', 'reroute', 'resolve')),
    CONSTRAINT operations_state_ck CHECK (state IN ('waiting', 'running', 'done', 'cancelled', 'failed')),
    CONSTRAINT operations_counts_ck CHECK (per_second > 0 AND expected >= 0 AND done >= 0 AND refused >= 0),
    CONSTRAINT operations_ended_ck CHECK ((state IN ('done', 'cancelled', 'failed')) = (ended_at IS NOT NULL))
);

CREATE INDEX operations_created_ix ON operations (created_at);

CREATE INDEX operations_open_ix ON operations (created_at) WHERE ended_at IS NULL;

CREATE TABLE audit (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    actor TEXT NOT NULL,
    via TEXT NOT NULL,
    action TEXT NOT NULL,
    subject_kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    before JSONB,
    after JSONB,
    reason TEXT,
    request_id TEXT,
    operation_id UUID,
    CONSTRAINT audit_pk PRIMARY KEY (id),
    CONSTRAINT audit_via_ck CHECK (via IN ('console', 'command', 'api')),
    CONSTRAINT audit_subject_kind_ck CHECK
        (subject_kind IN ('request', 'delivery', 'dead_letter', 'channel', 'operation', 'session', 'view'))
);

CREATE INDEX audit_at_ix ON audit (at, id);

CREATE INDEX audit_subject_ix ON audit (subject_kind, subject);

CREATE TABLE heartbeats (
    worker TEXT NOT NULL,
    role TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    version TEXT NOT NULL,
    in_flight INTEGER DEFAULT '0' NOT NULL,
    state JSONB DEFAULT '{}'::jsonb NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    seen_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT heartbeats_pk PRIMARY KEY (worker)
);

CREATE INDEX heartbeats_seen_ix ON heartbeats (seen_at);

CREATE TABLE history (
    span_seconds INTEGER NOT NULL,
    begins_at TIMESTAMP WITH TIME ZONE NOT NULL,
    channel TEXT NOT NULL,
    accepted INTEGER DEFAULT '0' NOT NULL,
    delivered INTEGER DEFAULT '0' NOT NULL,
    dead INTEGER DEFAULT '0' NOT NULL,
    attempts JSONB DEFAULT '{}'::jsonb NOT NULL,
    latency INTEGER[] DEFAULT '{}' NOT NULL,
    backlog JSONB DEFAULT '{}'::jsonb NOT NULL,
    oldest_seconds DOUBLE PRECISION,
    outbox INTEGER,
    outbox_oldest_seconds DOUBLE PRECISION,
    breaker TEXT,
    CONSTRAINT history_pk PRIMARY KEY (span_seconds, channel, begins_at),
    CONSTRAINT history_breaker_ck CHECK (breaker IN ('closed', 'half_open', 'open', 'paused')),
    CONSTRAINT history_counts_ck CHECK (accepted >= 0 AND delivered >= 0 AND dead >= 0)
);

CREATE INDEX history_begins_ix ON history (span_seconds, begins_at);
"""

TABLES = "console_sessions, console_links, sign_in_failures, saved_views, operations, audit, heartbeats, history"


def upgrade() -> None:
    op.execute(CHANGES)


def downgrade() -> None:
    op.execute(f"DROP TABLE {TABLES}")
    op.execute("DROP INDEX requests_unusual_ix, dead_letters_unresolved_ix, attempts_started_ix")
    op.execute("DELETE FROM client_keys WHERE scopes && ARRAY['view', 'admin']")
    op.execute(
        "ALTER TABLE client_keys DROP CONSTRAINT client_keys_scopes_ck, ADD CONSTRAINT client_keys_scopes_ck"
        " CHECK (scopes <@ ARRAY['submit', 'read', 'operate'] AND cardinality(scopes) > 0)"
    )
