"""Any HTTP endpoint: a JSON body, signed as Standard Webhooks (v1) asks.

The receiver drops repeats by `webhook-id`, which stays the same over all tries of a delivery. That is why the body
never says that it may be a repeat: machines read it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, SecretStr

from assistance.channels.contract import Capabilities, ChannelType, DeliveryKey, Health, Part, Rendered, View
from assistance.channels.http import (
    Answer,
    Endpoint,
    NoAnswer,
    open_connection,
    parse_endpoint,
    post,
    retry_after_seconds,
)
from assistance.channels.http_line import Line
from assistance.channels.kept import Kept
from assistance.channels.options import ChannelOptions, Secret, SecretUrl
from assistance.channels.text import headline, one_line, title
from assistance.channels.wire import NotConnected, Resolve, resolve
from assistance.domain.outcome import (
    CannotTell,
    Delivered,
    Lookup,
    Outcome,
    Rejected,
    RejectionReason,
    RetryLater,
    Unknown,
)
from assistance.runtime import ids
from assistance.runtime.clock import Deadline, unix_time

EVENT_TYPE = "assistance.requested"
FOLLOW_UP_TYPE = "assistance.follow_up"
_SECRET_PREFIX = "whsec_"  # noqa: S105 (the public prefix of every such secret)
_SHORTEST_SECRET, _NEW_SECRET, _LONGEST_SECRET = 24, 32, 64
_TRY_AGAIN = frozenset({408, 425, 429})
_CONTENT_REFUSED = frozenset({400, 406, 409, 413, 415, 422})
_NOBODY_THERE = frozenset({404, 410})
#: Nobody reads what an endpoint says beside its status.
_MOST_ANSWER_BYTES = 64 * 1024


def signing_key(secret: str) -> bytes:
    """The key behind `whsec_…`.

    Raises `ValueError` unless it is 24 to 64 bytes in base64.
    """
    try:
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(_SECRET_PREFIX) or not _SHORTEST_SECRET <= len(key) <= _LONGEST_SECRET:
        raise ValueError(
            f"a signing secret is {_SECRET_PREFIX} followed by base64 of {_SHORTEST_SECRET} to {_LONGEST_SECRET} bytes"
        )
    return key


def new_secret() -> str:
    """A secret that nobody knows yet."""
    return _SECRET_PREFIX + base64.b64encode(ids.secret_bytes(_NEW_SECRET)).decode()


def signature(key: bytes, webhook_id: str, timestamp: int, body: bytes) -> str:
    """The value of the header `webhook-signature`."""
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def _checked_url(url: SecretStr) -> SecretStr:
    parse_endpoint(url.get_secret_value())
    return url


def _checked_secret(secret: SecretStr) -> SecretStr:
    signing_key(secret.get_secret_value())
    return secret


def render(view: View) -> Rendered:
    """The request as data, unchanged: machines read it."""
    request = view.request
    created_at = request.created_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    data = {
        "id": str(request.id),
        "ref": request.ref,
        "topic": request.topic,
        "title": request.title,
        "description": request.description,
        "priority": str(request.priority),
        "customer": dict(request.customer),
        "conversation": {**request.conversation, "transcript": list(request.transcript)},
        "bot": dict(request.bot),
        "attachments": list(request.attachments),
        "metadata": dict(request.metadata),
        "created_at": created_at,
    }
    text = f"{title(request)}: {one_line(request.description)}"
    if (added := view.follow_up) is not None:
        told = {"version": view.event_version, "text": added.text, "from": added.author}
        return Rendered(
            text=f"{request.ref} · {headline(added)}: {one_line(added.text)}",
            content={"type": FOLLOW_UP_TYPE, "timestamp": created_at, "data": {**data, "follow_up": told}},
        )
    return Rendered(text=text, content={"type": EVENT_TYPE, "timestamp": created_at, "data": data})


def preview(view: View) -> tuple[Part, ...]:
    """The body."""
    return (as_text(render(view)),)


def as_text(rendered: Rendered) -> Part:
    """A body of JSON for people to read."""
    return Part(label="Body", text=json.dumps(rendered.content, indent=2, ensure_ascii=False))


class WebhookOptions(ChannelOptions):
    """Where to send, and the secret that the receiver checks the signature with."""

    url: Annotated[SecretUrl, AfterValidator(_checked_url)]
    secret: Annotated[Secret, AfterValidator(_checked_secret)]


class WebhookChannel:
    """One endpoint. It is the operator's choice, so it may be inside the own network."""

    def __init__(self, options: WebhookOptions) -> None:
        self._endpoint = parse_endpoint(options.url.get_secret_value())
        self._key = signing_key(options.secret.get_secret_value())
        self._kept = Kept[Line]()

    @property
    def destination(self) -> Mapping[str, Any]:
        """The server's name only: paths of such URLs are often secrets. Messages go to the configured URL."""
        return {"host": self._endpoint.host}

    def render(self, view: View) -> Rendered:
        """The request as data, unchanged: machines read it."""
        return render(view)

    def send(self, rendered: Rendered, destination: Mapping[str, Any], key: DeliveryKey, deadline: Deadline) -> Outcome:  # noqa: ARG002 (the URL is a secret and therefore in no destination)
        """Post the body once, signed for this moment."""
        webhook_id = f"msg_{key.delivery_id.hex}_{key.series}"
        return send_signed(
            self._endpoint, (self._key,), webhook_id, rendered.content, deadline, refused=_refusal, kept=self._kept
        )

    def lookup(self, destination: Mapping[str, Any], key: DeliveryKey, since: datetime, deadline: Deadline) -> Lookup:  # noqa: ARG002 (nothing to ask)
        """An endpoint cannot be asked; sending again is safe, because the receiver drops repeats."""
        return CannotTell(code="not_supported", detail="a webhook cannot be looked up")

    def check(self, deadline: Deadline) -> Health:
        """Connect, and verify the certificate; sending anything would be noticed."""
        try:
            open_connection(self._endpoint, deadline)
        except NotConnected as problem:
            return Health(problems=(f"The endpoint cannot be reached: {problem.detail}.",))
        return Health()


def send_signed(
    endpoint: Endpoint,
    keys: Sequence[bytes],
    webhook_id: str,
    content: Mapping[str, Any],
    deadline: Deadline,
    *,
    refused: Callable[[Answer], Outcome],
    find: Resolve = resolve,
    kept: Kept[Line] | None = None,
) -> Outcome:
    """Post a body once, signed for this moment; `refused` reads an answer that is no success."""
    try:
        answer = post_signed(endpoint, keys, webhook_id, content, deadline, find=find, kept=kept)
    except NotConnected as problem:
        return RetryLater(code=problem.code, detail=problem.detail, answered=False)
    except NoAnswer as problem:
        return Unknown(code=problem.code, detail=problem.detail, answered=False)
    if 200 <= answer.http_status < 300:
        return Delivered(receipt={"status": answer.http_status, "webhook_id": webhook_id})
    return refused(answer)


def post_signed(
    endpoint: Endpoint,
    keys: Sequence[bytes],
    webhook_id: str,
    content: Mapping[str, Any],
    deadline: Deadline,
    *,
    find: Resolve,
    kept: Kept[Line] | None = None,
) -> Answer:
    """Post a body with a signature for each key. Raises `NotConnected` and `NoAnswer`."""
    body = json.dumps(content, separators=(",", ":")).encode()
    timestamp = int(unix_time())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "assistance",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signature(key, webhook_id, timestamp, body) for key in keys),
    }
    return post(endpoint, body, headers, deadline, find=find, kept=kept, most_body_bytes=_MOST_ANSWER_BYTES)


def _refusal(answer: Answer) -> Outcome:
    http_status = answer.http_status
    code, detail = f"http_{http_status}", f"the endpoint answered HTTP {http_status}"
    if http_status in _TRY_AGAIN or 500 <= http_status < 600:
        wait = retry_after_seconds(answer, otherwise=None)
        return RetryLater(code=code, detail=detail, retry_after_seconds=wait)
    if 300 <= http_status < 400:
        return Rejected(code=code, detail=f"{detail}: redirects are not followed", reason=RejectionReason.CONFIGURATION)
    if http_status in _NOBODY_THERE:
        return Rejected(code=code, detail=detail, reason=RejectionReason.DESTINATION)
    if http_status in _CONTENT_REFUSED:
        return Rejected(code=code, detail=detail, reason=RejectionReason.CONTENT)
    if 400 <= http_status < 500:
        return Rejected(code=code, detail=detail, reason=RejectionReason.CONFIGURATION)
    return Unknown(code=code, detail=detail)


CHANNEL_TYPE = ChannelType(
    name="webhook",
    capabilities=Capabilities(follow_ups=True, for_people=False),
    options=WebhookOptions,
    build=WebhookChannel,
    preview=preview,
)
