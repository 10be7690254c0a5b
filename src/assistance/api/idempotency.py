"""The `Idempotency-Key` header: its syntax, and the fingerprint of the call that it comes with."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from assistance.api.problem_types import IDEMPOTENCY_KEY_INVALID
from assistance.api.problems import Problem
from assistance.domain.answers import IdempotencyKey

MAX_KEY_CHARACTERS = 255
#: A string of RFC 8941: printable ASCII in quotes, where only quote and backslash are escaped.
_IN_QUOTES = r'(?:[ !#-\[\]-~]|\\["\\])'
_QUOTED = re.compile(rf'"({_IN_QUOTES}*)"')
#: A token of RFC 8941, which may also start with a digit: many clients send a bare UUID.
_FIRST, _LATER = "[A-Za-z0-9*]", r"[A-Za-z0-9!#$%&'*+\-.^_`|~:/]"
_BARE = re.compile(f"{_FIRST}{_LATER}*")
#: The header as JSON Schema describes it.
HEADER_SCHEMA = {
    "type": "string",
    "pattern": f'^("{_IN_QUOTES}{{1,{MAX_KEY_CHARACTERS}}}"|{_FIRST}{_LATER}{{0,{MAX_KEY_CHARACTERS - 1}}})$',
}
_PRINTABLE = re.compile(rf"[ -~]{{1,{MAX_KEY_CHARACTERS}}}")
_ESCAPED = re.compile(r'\\(["\\])')


def parse_key(header: str) -> str:
    """The key in a header's value. Servers join repeated headers with a comma, which no bare key may hold.

    Raises `Problem` (idempotency-key-invalid).
    """
    header = header.strip(" \t")
    if quoted := _QUOTED.fullmatch(header):
        key = _ESCAPED.sub(r"\1", quoted[1])
    else:
        key = header if _BARE.fullmatch(header) else ""
    if not 1 <= len(key) <= MAX_KEY_CHARACTERS:
        raise Problem(
            IDEMPOTENCY_KEY_INVALID,
            f'Send one key of 1 to {MAX_KEY_CHARACTERS} printable ASCII characters, as "key" or as a bare token.',
        )
    return key


def key_for(header: str, method: str, path: str, body: Any) -> IdempotencyKey:
    """The key together with what it stands for: method, path and the meaning of the body.

    The order of members and white space between them do not matter; everything else does. Raises `Problem`.
    """
    return IdempotencyKey(value=parse_key(header), fingerprint=_fingerprint(method, path, body))


def named_key(name: Any, method: str, path: str, body: Any) -> IdempotencyKey:
    """The same for a key that stands in a body, as a JSON string. Raises `Problem`."""
    if not isinstance(name, str) or not _PRINTABLE.fullmatch(name):
        detail = f"The idempotency_key has to be a string of 1 to {MAX_KEY_CHARACTERS} printable ASCII characters."
        raise Problem(IDEMPOTENCY_KEY_INVALID, detail)
    return IdempotencyKey(value=name, fingerprint=_fingerprint(method, path, body))


def _fingerprint(method: str, path: str, body: Any) -> bytes:
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(f"{method}\n{path}\n{canonical}".encode()).digest()
