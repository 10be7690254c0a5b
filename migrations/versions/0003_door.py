"""The door: clients with keys, budgets and webhooks, signed sources, and everything that a request may say."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

# Only additions with defaults: processes of the version before go on working while the new ones are started.
CHANGES = """
ALTER TABLE requests
    ADD COLUMN title TEXT,
    ADD COLUMN bot JSONB DEFAULT '{}'::jsonb NOT NULL,
    ADD COLUMN conversation JSONB DEFAULT '{}'::jsonb NOT NULL,
    ADD COLUMN transcript JSONB DEFAULT '[]'::jsonb NOT NULL,
    ADD COLUMN attachments JSONB DEFAULT '[]'::jsonb NOT NULL,
    ADD COLUMN dedup_key TEXT,
    ADD COLUMN not_before TIMESTAMP WITH TIME ZONE,
    ADD COLUMN expires_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN callback_url TEXT,
    ADD COLUMN called_off TEXT,
    ADD COLUMN open_dedup_key TEXT,
    ADD CONSTRAINT requests_called_off_ck CHECK (called_off IN ('cancelled', 'expired'));

CREATE INDEX requests_created_ix ON requests (created_at, id);

CREATE INDEX requests_open_ix ON requests (client) WHERE ended_at IS NULL;

CREATE INDEX requests_customer_ix ON requests (client, customer_id) WHERE customer_id IS NOT NULL;

CREATE UNIQUE INDEX requests_dedup_ix ON requests (client, open_dedup_key) WHERE open_dedup_key IS NOT NULL;

ALTER TABLE idempotency_keys ADD COLUMN event_version INTEGER DEFAULT '1' NOT NULL;

ALTER TABLE dead_letters
    DROP CONSTRAINT dead_letters_source_ck,
    ADD CONSTRAINT dead_letters_source_ck CHECK (source IN ('consumer', 'relay', 'broker', 'source'));

CREATE TABLE clients (
    name TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    requests_per_minute INTEGER,
    open_requests INTEGER,
    CONSTRAINT clients_pk PRIMARY KEY (name),
    CONSTRAINT clients_name_ck CHECK (name ~ '^[a-z][a-z0-9-]{0,39}$'),
    CONSTRAINT clients_limits_ck CHECK (requests_per_minute > 0 AND open_requests > 0)
);

CREATE TABLE client_keys (
    prefix TEXT NOT NULL,
    client TEXT NOT NULL,
    digest BYTEA NOT NULL,
    scopes TEXT[] NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE,
    revoked_at TIMESTAMP WITH TIME ZONE,
    last_used_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT client_keys_pk PRIMARY KEY (prefix),
    CONSTRAINT client_keys_scopes_ck CHECK (scopes <@ ARRAY['submit', 'read', 'operate'] AND cardinality(scopes) > 0),
    CONSTRAINT client_keys_client_fk FOREIGN KEY(client) REFERENCES clients (name) ON DELETE CASCADE
);

CREATE INDEX client_keys_client_ix ON client_keys (client);

CREATE TABLE budgets (
    client TEXT NOT NULL,
    free_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT budgets_pk PRIMARY KEY (client)
);

CREATE TABLE webhooks (
    id UUID NOT NULL,
    client TEXT NOT NULL,
    url TEXT NOT NULL,
    secret TEXT NOT NULL,
    previous_secret TEXT,
    previous_until TIMESTAMP WITH TIME ZONE,
    events TEXT[],
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    disabled_at TIMESTAMP WITH TIME ZONE,
    disabled_reason TEXT,
    CONSTRAINT webhooks_pk PRIMARY KEY (id),
    CONSTRAINT webhooks_disabled_ck CHECK ((disabled_at IS NULL) = (disabled_reason IS NULL)),
    CONSTRAINT webhooks_client_url_uq UNIQUE (client, url)
);

CREATE TABLE source_messages (
    source TEXT NOT NULL,
    message_id TEXT NOT NULL,
    received_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    request_id UUID,
    CONSTRAINT source_messages_pk PRIMARY KEY (source, message_id),
    CONSTRAINT source_messages_request_id_fk FOREIGN KEY(request_id) REFERENCES requests (id) ON DELETE CASCADE
);

CREATE INDEX source_messages_received_ix ON source_messages (received_at);

CREATE INDEX source_messages_request_ix ON source_messages (request_id);
"""


def upgrade() -> None:
    op.execute(CHANGES)


def downgrade() -> None:
    op.execute("DROP TABLE source_messages, webhooks, budgets, client_keys, clients")
    op.execute("DROP INDEX requests_created_ix, requests_open_ix, requests_customer_ix")
    op.execute("ALTER TABLE idempotency_keys DROP COLUMN event_version")
    op.execute("DELETE FROM dead_letters WHERE source = 'source'")
    op.execute(
        "ALTER TABLE dead_letters DROP CONSTRAINT dead_letters_source_ck,"
        " ADD CONSTRAINT dead_letters_source_ck CHECK (source IN ('consumer', 'relay', 'broker'))"
    )
    op.execute(
        "ALTER TABLE requests DROP COLUMN title, DROP COLUMN bot, DROP COLUMN conversation, DROP COLUMN transcript,"
        " DROP COLUMN attachments, DROP COLUMN dedup_key, DROP COLUMN not_before, DROP COLUMN expires_at,"
        " DROP COLUMN callback_url, DROP COLUMN called_off, DROP COLUMN open_dedup_key"
    )
