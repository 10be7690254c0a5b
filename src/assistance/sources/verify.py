"""Is a message authentic? Pure: raw bytes, headers, keys and the time go in, yes or no comes out; nothing is raised.

Nothing of a body is read before this has said yes, and signatures are compared as bytes in constant time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from assistance.domain.source import Scheme

TOLERANCE_SECONDS = 300
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_STANDARD_PREFIX = "whsec_"
_STANDARD_SIZES = range(24, 65)
_SHORTEST_SECRET = 16

#: Headers by their lower-case names, each value as HTTP servers hand it over: one character for one byte.
Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a message says of itself: the bytes that were signed, and signatures of which one has to be right."""

    signed: bytes
    signatures: Sequence[bytes]
    written: Callable[[bytes], bytes]  # a digest as it stands in the header


def key_of(scheme: Scheme, secret: str) -> bytes:
    """The key behind a secret.

    Raises `ValueError` with the end of a sentence, which never holds the secret.
    """
    if scheme is not Scheme.STANDARD:
        if len(secret.encode()) < _SHORTEST_SECRET:
            raise ValueError(f"is shorter than {_SHORTEST_SECRET} bytes")
        return secret.encode()
    try:
        key = base64.b64decode(secret.removeprefix(_STANDARD_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) not in _STANDARD_SIZES:
        raise ValueError(f"is not {_STANDARD_PREFIX} followed by base64 of 24 to 64 bytes")
    return key


def is_authentic(scheme: Scheme, keys: Sequence[bytes], headers: Headers, body: bytes, now: int) -> bool:
    """Whether one of the keys signed this message, and it is of this moment where it says when it was sent.

    `now` is in seconds since 1970.
    """
    claim = _CLAIMS[scheme](headers, body, now)
    if claim is None:
        return False
    right = False
    for key in keys:
        expected = claim.written(hmac.digest(key, claim.signed, hashlib.sha256))
        for signature in claim.signatures:
            right |= hmac.compare_digest(signature, expected)
    return right


def _standard(headers: Headers, body: bytes, now: int) -> _Claim | None:
    webhook_id, sent_at = _raw(headers, "webhook-id"), _timestamp(headers, "webhook-timestamp", now)
    signatures = _raw(headers, "webhook-signature")
    if not webhook_id or not sent_at or not signatures:
        return None
    signed = b".".join((webhook_id, sent_at, body))
    return _Claim(signed, signatures.split(b" "), lambda digest: b"v1," + base64.b64encode(digest))


def _hub(headers: Headers, body: bytes, _now: int) -> _Claim | None:
    signature = _raw(headers, "x-hub-signature-256")
    return _Claim(body, [signature], lambda digest: b"sha256=" + digest.hex().encode()) if signature else None


def _slack(headers: Headers, body: bytes, now: int) -> _Claim | None:
    sent_at, signature = _timestamp(headers, "x-slack-request-timestamp", now), _raw(headers, "x-slack-signature")
    if not sent_at or not signature:
        return None
    signed = b":".join((b"v0", sent_at, body))
    return _Claim(signed, [signature], lambda digest: b"v0=" + digest.hex().encode())


_CLAIMS: Mapping[Scheme, Callable[[Headers, bytes, int], _Claim | None]] = {
    Scheme.STANDARD: _standard,
    Scheme.HUB: _hub,
    Scheme.SLACK: _slack,
}


def _raw(headers: Headers, name: str) -> bytes | None:
    """The bytes of a header as they came; none when it is missing, or holds what no byte stands for."""
    try:
        return headers.get(name, "").encode("latin-1") or None
    except UnicodeEncodeError:
        return None


def _timestamp(headers: Headers, name: str, now: int) -> bytes | None:
    written = headers.get(name, "")
    if not _TIMESTAMP.fullmatch(written) or abs(now - int(written)) > TOLERANCE_SECONDS:
        return None
    return written.encode()
