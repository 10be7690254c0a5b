"""The public keys of an issuer (RFC 7517), fetched when they are needed and kept while the issuer is away."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import structlog
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, RSAKey

from assistance.channels.http import NoAnswer, get, parse_endpoint
from assistance.channels.wire import NotConnected
from assistance.domain.errors import IssuerUnavailable
from assistance.runtime.clock import Deadline, monotonic

log = structlog.get_logger()

#: The kind of key, and for curves the one curve, that belongs to each algorithm.
_BELONGS_TO = {"RS256": ("RSA", None), "ES256": ("EC", "P-256")}
_SHORTEST_RSA_BITS = 2048
_MOST_KEYS = 100
_FETCH_SECONDS = 2.0
#: A key that the issuer withdrew counts no longer than this.
_KEEP_SECONDS = 600.0
#: Neither an unknown key nor an issuer that is away makes us ask more often.
_PAUSE_SECONDS = 30.0
_PATIENCE_SECONDS = 0.5  # at the very first fetch, when a call cannot be answered without it


class KeySet:
    """The keys at an address: `https://…`, `http://` on this machine, or `file:PATH`. Thread-safe."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._keys: list[tuple[str | None, Key]] | None = None
        self._failed = False
        self._fetched_at = self._asked_at = float("-inf")
        self._asking = threading.Lock()

    def find(self, algorithm: str, kid: str | None, deadline: Deadline) -> Key | None:
        """The key for a token with this header, or none; without a `kid` only if just one key can be meant.

        Raises `IssuerUnavailable` when the keys cannot be had and a fresh set might hold it.
        """
        if self._keys is None or monotonic() - self._fetched_at > _KEEP_SECONDS:
            self._fetch(deadline)
        key = self._choose(algorithm, kid)
        if key is None:
            self._fetch(deadline)
            key = self._choose(algorithm, kid)
        if key is None and (self._failed or self._keys is None):
            raise IssuerUnavailable
        return key

    def _choose(self, algorithm: str, kid: str | None) -> Key | None:
        kind, curve = _BELONGS_TO[algorithm]
        fit = [
            key
            for name, key in self._keys or ()
            if key.key_type == kind and getattr(key, "curve_name", None) == curve and kid in (None, name)
        ]
        return fit[0] if len(fit) == 1 else None

    def _fetch(self, deadline: Deadline) -> None:
        """Get the set anew unless that was tried just now; whoever has a set does not wait for another's fetch."""
        if not self._asking.acquire(timeout=0 if self._keys is not None else deadline.remaining()):
            return
        try:
            pause = _PAUSE_SECONDS if self._keys is not None else _PATIENCE_SECONDS
            if monotonic() - self._asked_at < pause:
                return
            self._asked_at = monotonic()
            self._keys = _read(_content(self._address, min(_FETCH_SECONDS, deadline.remaining())))
            self._fetched_at, self._failed = monotonic(), False
        except (NotConnected, NoAnswer, OSError, ValueError, JoseError) as error:
            self._failed = True
            # Counted from its end: callers who waited for it would else ask one after the other, a thread each.
            self._asked_at = monotonic()
            log.warning("clients.keys_not_fetched", address=self._address, reason=str(error))
        finally:
            self._asking.release()


def _content(address: str, seconds: float) -> bytes:
    if address.startswith("file:"):
        return Path(address.removeprefix("file:")).read_bytes()
    answer = get(parse_endpoint(address), {"Accept": "application/json"}, Deadline.after(seconds))
    if answer.http_status != 200 or not answer.is_whole:
        raise ValueError(f"it answered {answer.http_status}")
    return answer.body


def _read(content: bytes) -> list[tuple[str | None, Key]]:
    """The keys for checking signatures; others, such as secrets and keys for encryption, are left out.

    Raises `ValueError` when it is no key set, or none of its keys is of use.
    """
    try:
        document = json.loads(content)
    except RecursionError as error:
        raise ValueError("it is not a set of keys") from error
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("it is not a set of keys")
    read = [_read_key(item) for item in listed[:_MOST_KEYS] if isinstance(item, dict)]
    keys = [key for key in read if key is not None]
    if not keys:
        raise ValueError("it holds no key for RS256 or ES256")
    return keys


def _read_key(item: dict[str, Any]) -> tuple[str | None, Key] | None:
    kid = item.get("kid")
    key: Key
    try:
        if item.get("use", "sig") != "sig" or "verify" not in item.get("key_ops", ["verify"]):
            return None
        if item.get("kty") == "RSA":
            key = RSAKey.import_key(item)
            if key.public_key.key_size < _SHORTEST_RSA_BITS:
                return None
        elif item.get("kty") == "EC":
            key = ECKey.import_key(item)
        else:
            return None
    except (JoseError, ValueError, TypeError, KeyError):
        return None  # one key that nobody can read is no reason to do without the others
    return kid if isinstance(kid, str) else None, key
