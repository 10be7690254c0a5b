"""The webhooks of clients, kept in memory; nothing is ever sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from assistance.channels.public_addresses import parse_public_url
from assistance.channels.webhook import new_secret
from assistance.domain.errors import UrlRefused, WebhookExists
from assistance.runtime.clock import Deadline
from assistance.runtime.ids import uuid7


class MemoryWebhooks:
    def __init__(self) -> None:
        self.of: dict[tuple[str, UUID], dict[str, Any]] = {}
        self.slow: Callable[[], object] = lambda: None  # what a test of a webhook waits for

    def register(self, client: str, url: str, events: Sequence[str] | None, deadline: Deadline) -> Mapping[str, Any]:
        try:
            parse_public_url(url)
        except ValueError as error:
            raise UrlRefused(f"The url {error}.", "url") from None
        if any(webhook["url"] == url for webhook in self.list(client, deadline)):
            raise WebhookExists
        names = ("previous_until", "disabled_at", "disabled_reason")
        name, now = uuid7(), datetime.now(UTC)
        made = {"id": name, "url": url, "events": events, "created_at": now, "secret": new_secret()}
        self.of[client, name] = dict.fromkeys(names) | made
        return self.of[client, name]

    def list(self, client: str, deadline: Deadline) -> Sequence[Mapping[str, Any]]:
        return [webhook for (owner, _), webhook in self.of.items() if owner == client]

    def remove(self, client: str, webhook_id: UUID, deadline: Deadline) -> bool:
        return self.of.pop((client, webhook_id), None) is not None

    def rotate(self, client: str, webhook_id: UUID, deadline: Deadline) -> Mapping[str, Any] | None:
        found = self.of.get((client, webhook_id))
        if found is not None:
            found.update(self.new_secret(client, deadline))
        return found

    def new_secret(self, client: str, deadline: Deadline) -> Mapping[str, Any]:
        return {"secret": new_secret(), "previous_until": datetime.now(UTC) + timedelta(days=1)}

    def test(self, client: str, webhook_id: UUID, deadline: Deadline) -> Mapping[str, Any] | None:
        if (client, webhook_id) not in self.of:
            return None
        self.slow()
        return {"delivered": False, "http_status": None, "detail": "Nothing is sent from here."}
