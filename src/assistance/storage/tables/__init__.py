"""The tables of the flow. `migrations/` creates them; a test proves that both say the same.

Constraints make wrong states impossible: see docs/flow.md for the state machines that they guard. Instants are
`timestamptz`, written with the database's own `now()`.
"""

from assistance.storage.tables.asked import events, idempotency_keys, requests, timers
from assistance.storage.tables.callers import budgets, client_keys, clients, source_messages, webhooks
from assistance.storage.tables.columns import SCHEMA_REVISION, metadata
from assistance.storage.tables.operating import (
    audit,
    console_links,
    console_sessions,
    heartbeats,
    history,
    operations,
    saved_views,
    sign_in_failures,
)
from assistance.storage.tables.told import attempts, channel_states, dead_letters, deliveries, outbox, paces

__all__ = [
    "SCHEMA_REVISION",
    "attempts",
    "audit",
    "budgets",
    "channel_states",
    "client_keys",
    "clients",
    "console_links",
    "console_sessions",
    "dead_letters",
    "deliveries",
    "events",
    "heartbeats",
    "history",
    "idempotency_keys",
    "metadata",
    "operations",
    "outbox",
    "paces",
    "requests",
    "saved_views",
    "sign_in_failures",
    "source_messages",
    "timers",
    "webhooks",
]
