"""The webhooks of clients: registered only where callbacks may go, and tried out on request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Connection, Row

from assistance.channels.http import Endpoint, NoAnswer, parse_endpoint
from assistance.channels.public_addresses import BLOCKED, only_public, parse_public_url
from assistance.channels.webhook import post_signed, signing_key
from assistance.channels.wire import NotConnected, Resolve, resolve
from assistance.configuration import Configuration
from assistance.deliveries import webhooks
from assistance.deliveries.callbacks import cancel_callbacks, of_webhook
from assistance.domain.errors import UrlRefused
from assistance.intake.callbacks import check_url
from assistance.runtime import ids
from assistance.runtime.clock import Deadline, utc_now
from assistance.storage.database import Database

Result = TypeVar("Result")

#: Of the time that a call has, what looking a name up may take.
_SHARE_OF_DEADLINE = 0.5


class Webhooks:
    """What clients do with their webhooks; each sees its own only. `find_public` finds the addresses of their names."""

    def __init__(self, database: Database, configuration: Configuration, find_public: Resolve = only_public) -> None:
        self._database = database
        self._configuration = configuration
        self._find_public = find_public

    def register(self, client: str, url: str, events: Sequence[str] | None, deadline: Deadline) -> Mapping[str, Any]:
        """The new webhook with its `secret`.

        Raises `UrlRefused`, `WebhookExists` and `TooManyWebhooks`.
        """
        if check_url(self._configuration, client, url, "url") is None:
            self._look_up(url, Deadline.after(deadline.remaining() * _SHARE_OF_DEADLINE))
        return _shown(self._run(lambda connection: webhooks.register(connection, client, url, events), deadline))

    def list(self, client: str, deadline: Deadline) -> Sequence[Mapping[str, Any]]:
        """The client's webhooks without their secrets, the oldest first."""
        return [_shown(row) for row in self._run(lambda it: webhooks.webhooks_of(it, client), deadline)]

    def remove(self, client: str, webhook_id: UUID, deadline: Deadline) -> bool:
        """Delete a webhook; what waits for it is not sent any more. False when there is none."""

        def work(connection: Connection) -> bool:
            removed = webhooks.remove(connection, client, webhook_id)
            if removed:
                cancel_callbacks(connection, of_webhook(webhook_id))
            return removed

        return self._run(work, deadline)

    def rotate(self, client: str, webhook_id: UUID, deadline: Deadline) -> Mapping[str, Any] | None:
        """The webhook with its new `secret`; none when there is no such webhook."""
        row = self._run(lambda connection: webhooks.rotate(connection, client, webhook_id), deadline)
        return None if row is None else _shown(row)

    def new_secret(self, client: str, deadline: Deadline) -> Mapping[str, Any]:
        """A new secret for the `callback_url` of the client's requests: `secret` and `previous_until`."""
        return _shown(self._run(lambda connection: webhooks.new_callback_secret(connection, client), deadline))

    def test(self, client: str, webhook_id: UUID, deadline: Deadline) -> Mapping[str, Any] | None:
        """Send a callback of type `assistance.test` now and say how it went; none when there is no such webhook.

        Keys: delivered, http_status (or none) and detail (or none, a sentence).
        """
        found = self._run(lambda connection: webhooks.one_webhook(connection, client, webhook_id), deadline)
        if found is None:
            return None
        timestamp = utc_now().isoformat(timespec="microseconds").replace("+00:00", "Z")
        content = {"type": "assistance.test", "timestamp": timestamp, "data": {"webhook": str(webhook_id)}}
        keys = [signing_key(secret) for secret in webhooks.signing_secrets(found)]
        try:
            endpoint, find = self._way_to(found.url, client)
            answer = post_signed(endpoint, keys, f"msg_{ids.token().hex}", content, deadline, find=find)
        except (NotConnected, NoAnswer) as problem:
            return {"delivered": False, "http_status": None, "detail": f"{problem.detail}."}
        except ValueError as error:
            return {"delivered": False, "http_status": None, "detail": f"The URL {error}."}
        return {"delivered": 200 <= answer.http_status < 300, "http_status": answer.http_status, "detail": None}

    def _look_up(self, url: str, deadline: Deadline) -> None:
        """Refuse a name that leads where callbacks may not go.

        One that cannot be looked up is taken: the API may have no way out, and every send looks again.
        """
        endpoint = parse_public_url(url)
        try:
            self._find_public(endpoint.host, endpoint.port, deadline)
        except NotConnected as problem:
            if problem.code == BLOCKED:
                raise UrlRefused(f"Nothing is sent to the url: {problem.detail}.", "url") from problem

    def _way_to(self, url: str, client: str) -> tuple[Endpoint, Resolve]:
        if self._configuration.webhook_at(url, client) is not None:
            return parse_endpoint(url), resolve
        return parse_public_url(url), self._find_public

    def _run(self, work: Callable[[Connection], Result], deadline: Deadline) -> Result:
        return self._database.run(work, deadline)


def _shown(row: Row[Any]) -> Mapping[str, Any]:
    return row._asdict()
