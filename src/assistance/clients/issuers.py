"""JSON Web Tokens as the other way to say who one is.

In comes a token, out goes the caller that its issuer vouches for. The issuer's table in the configuration decides
which algorithms count, never the token: a public key is no secret, and a token must not be able to use it as one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import Key, OctKey
from joserfc.jwt import JWTClaimsRegistry

from assistance.clients.key_sets import KeySet
from assistance.clients.tokens import BROKEN, LONGEST_TOKEN, object_in, part_of
from assistance.configuration import IssuerSettings
from assistance.domain.caller import Caller, Scope
from assistance.domain.errors import SettingsError, Unauthenticated
from assistance.runtime.clock import Deadline, unix_time
from assistance.settings import read_secret

LEEWAY_SECONDS = 30
#: A short secret can be guessed offline from a single token.
_SHORTEST_SECRET = 32
#: What may follow the issuer's name in the name of a client.
_SUBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@|-]{0,99}")
_SCOPES = {scope.value: scope for scope in Scope}
#: What the library raises at tokens that nobody should have written.
_BROKEN = (JoseError, *BROKEN)


class Keys(Protocol):
    """Where an issuer's keys come from."""

    def find(self, algorithm: str, kid: str | None, deadline: Deadline) -> Key | None:
        """The key for a token with this header, or none. Raises `IssuerUnavailable`."""


class Issuer:
    """One issuer of tokens that are trusted. Thread-safe.

    Its clients are called `<name>:<subject>`, so that they are never taken for clients with keys.
    """

    def __init__(self, settings: IssuerSettings, keys: Keys, *, now: Callable[[], float] = unix_time) -> None:
        self.issuer = settings.issuer
        self._settings = settings
        self._keys = keys
        self._now = now
        self._registry = jws.JWSRegistry(algorithms=list(settings.algorithms))
        self._registry.max_header_length = LONGEST_TOKEN

    def caller(self, token: str, deadline: Deadline) -> Caller:
        """Who the token stands for. Raises `Unauthenticated` and `IssuerUnavailable`."""
        try:
            claims = self._claims(token, deadline)
        except _BROKEN as error:
            expired = type(error).__name__ == "ExpiredTokenError"
            raise Unauthenticated("expired" if expired else "untrusted") from None
        subject = claims.get(self._settings.client_claim)
        if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
            raise Unauthenticated("untrusted")
        return Caller(
            client=f"{self._settings.name}:{subject}", scopes=_scopes_in(claims.get(self._settings.scope_claim))
        )

    def _claims(self, token: str, deadline: Deadline) -> Mapping[str, Any]:
        """What a genuine token that is valid now claims."""
        header = part_of(token, 0)
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in self._settings.algorithms or not (kid is None or isinstance(kid, str)):
            raise ValueError("another algorithm")
        if "crit" in header:
            raise ValueError("it asks for something that nobody here understands")
        key = self._keys.find(algorithm, kid, deadline)
        if key is None:
            raise ValueError("no such key")
        signed = jws.deserialize_compact(token, key, algorithms=[algorithm], registry=self._registry)
        claims = object_in(signed.payload or b"")
        registry = JWTClaimsRegistry(
            now=int(self._now()),
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": self._settings.issuer},
            aud={"essential": True, "value": self._settings.audience},
            exp={"essential": True},
        )
        registry.validate(claims)
        return claims


def open_issuer(settings: IssuerSettings) -> Issuer:
    """The issuer with its secret resolved; keys are fetched when the first token comes. Raises `SettingsError`."""
    if settings.secret is None:
        return Issuer(settings, KeySet(settings.jwks or ""))
    try:
        return Issuer(settings, _Secret(read_secret(settings.secret)))
    except ValueError as error:
        raise SettingsError(f"[issuers.{settings.name}] secret is wrong: {error}.") from None


class _Secret:
    """The one key of an issuer that shares a secret with us."""

    def __init__(self, secret: str) -> None:
        if len(secret.encode()) < _SHORTEST_SECRET:
            raise ValueError(f"it has fewer than {_SHORTEST_SECRET} bytes")
        if "-----BEGIN" in secret or "ssh-" in secret[:8]:
            raise ValueError("it is a public or private key; name one with jwks")
        self._key = OctKey.import_key(secret.encode())

    def find(self, algorithm: str, kid: str | None, deadline: Deadline) -> Key:  # noqa: ARG002 (there is but one)
        return self._key


def _scopes_in(claim: object) -> frozenset[Scope]:
    """The scopes of ours in a claim: words separated by spaces, or a list of words; others are somebody else's."""
    words = claim.split(" ") if isinstance(claim, str) else claim if isinstance(claim, list) else ()
    return frozenset(_SCOPES[word] for word in words if isinstance(word, str) and word in _SCOPES)
