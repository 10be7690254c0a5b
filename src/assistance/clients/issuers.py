"""JSON Web Tokens as the other way to say who one is.

In comes a token, out goes the caller that its issuer vouches for. The issuer's table in the configuration decides
which algorithms count, never the token: a public key is no secret, and a token must not be able to use it as one.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import Key, OctKey
from joserfc.jwt import JWTClaimsRegistry

from assistance.clients.key_sets import KeySet
from assistance.configuration import IssuerSettings
from assistance.domain.caller import Caller, Scope
from assistance.domain.errors import SettingsError, Unauthenticated
from assistance.runtime.clock import Deadline, unix_time
from assistance.settings import read_secret

LEEWAY_SECONDS = 30
#: A short secret can be guessed offline from a single token.
_SHORTEST_SECRET = 32
#: In characters; a longer one is not even looked at.
LONGEST_TOKEN = 8192
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
#: What may follow the issuer's name in the name of a client.
_SUBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@|-]{0,99}")
_SCOPES = {scope.value: scope for scope in Scope}
#: What the library raises at tokens that nobody should have written.
_BROKEN = (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)


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
        header = _part(token, 0)
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in self._settings.algorithms or not (kid is None or isinstance(kid, str)):
            raise ValueError("another algorithm")
        if "crit" in header:
            raise ValueError("it asks for something that nobody here understands")
        key = self._keys.find(algorithm, kid, deadline)
        if key is None:
            raise ValueError("no such key")
        signed = jws.deserialize_compact(token, key, algorithms=[algorithm], registry=self._registry)
        claims = _object(signed.payload or b"")
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


def looks_like_a_token(text: str) -> bool:
    """Whether a credential can be a JSON Web Token at all."""
    return _TOKEN.fullmatch(text) is not None


def unverified_issuer(token: str) -> str | None:
    """Who a token says has issued it: good for choosing whose keys to try, and for nothing else."""
    try:
        issuer = _part(token, 1).get("iss")
    except _BROKEN:
        return None
    return issuer if isinstance(issuer, str) else None


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


def _part(token: str, number: int) -> Mapping[str, Any]:
    text = token.split(".")[number]
    try:
        return _object(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except binascii.Error as error:
        raise ValueError("not base64") from error


def _object(text: bytes) -> dict[str, Any]:
    """The JSON object, if it can be read in one way only. Raises `ValueError`."""
    value = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_no_number)
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member occurs twice")
    return members


def _no_number(name: str) -> Any:
    # No time comes after NaN: a token that expires then never would.
    raise ValueError(f"{name} is not JSON")


def _scopes_in(claim: object) -> frozenset[Scope]:
    """The scopes of ours in a claim: words separated by spaces, or a list of words; others are somebody else's."""
    words = claim.split(" ") if isinstance(claim, str) else claim if isinstance(claim, list) else ()
    return frozenset(_SCOPES[word] for word in words if isinstance(word, str) and word in _SCOPES)
