"""A source with its secrets in hand: whether a message is one of its own, and what the message is called."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field

from assistance.configuration import SourceSettings
from assistance.domain.errors import SettingsError
from assistance.domain.source import Scheme
from assistance.settings import read_secret
from assistance.sources.verify import Headers, is_authentic, key_of

_WEBHOOK_ID = "webhook-id"
#: What is longer or stranger is known by its digest: an index has no room for it.
_PLAIN_ID = re.compile(r"[!-~]{1,200}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A configured source, ready to check messages."""

    settings: SourceSettings
    keys: tuple[bytes, ...] = field(repr=False)
    verify_token: bytes | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        return self.settings.name

    @property
    def client(self) -> str:
        """Whom its requests belong to; no client can have this name."""
        return client_of(self.name)

    def sent(self, headers: Headers, body: bytes, now: int) -> bool:
        """Whether the source sent this message, at about `now` (seconds since 1970) if the scheme tells."""
        return is_authentic(self.settings.scheme, self.keys, headers, body, now)

    def knows(self, verify_token: str) -> bool:
        """Whether this is the token that the operator gave to the sender."""
        return self.verify_token is not None and hmac.compare_digest(verify_token.encode(), self.verify_token)

    def message_id(self, headers: Headers, body: bytes) -> str:
        """What a repeat of the message has in common with it: an id of the sender's, else the digest of the body."""
        header = _WEBHOOK_ID if self.settings.scheme is Scheme.STANDARD else self.settings.message_id
        given = headers.get(header, "") if header else ""
        if _PLAIN_ID.fullmatch(given):
            return given
        return f"sha256:{hashlib.sha256(given.encode() or body).hexdigest()}"


def client_of(source: str) -> str:
    """The client in whose name a source asks for assistance."""
    return f"source:{source}"


def open_source(settings: SourceSettings) -> Source:
    """The source with its secrets.

    Raises `SettingsError` with a sentence for each secret that is missing or wrong.
    """
    where, mistakes = f"[sources.{settings.name}]", []
    keys = []
    for reference in settings.secrets:
        try:
            keys.append(key_of(settings.scheme, read_secret(reference)))
        except ValueError as error:
            mistakes.append(f"{where} secret {reference}: {error}.")
    verify_token = None
    try:
        verify_token = read_secret(settings.verify_token).encode() if settings.verify_token else None
    except ValueError as error:
        mistakes.append(f"{where} verify_token {settings.verify_token}: {error}.")
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    return Source(settings=settings, keys=tuple(keys), verify_token=verify_token)
