"""What can be read of a JSON Web Token without a key: enough to know whose keys to try.

No library is needed for it, so that a process which trusts no issuer loads none.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

#: In characters; a longer one is not even looked at.
LONGEST_TOKEN = 8192
#: What reading raises at tokens that nobody should have written.
BROKEN = (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


def looks_like_a_token(text: str) -> bool:
    """Whether a credential can be a JSON Web Token at all."""
    return _TOKEN.fullmatch(text) is not None


def unverified_issuer(token: str) -> str | None:
    """Who a token says has issued it: good for choosing whose keys to try, and for nothing else."""
    try:
        issuer = part_of(token, 1).get("iss")
    except BROKEN:
        return None
    return issuer if isinstance(issuer, str) else None


def part_of(token: str, number: int) -> Mapping[str, Any]:
    """The JSON object in a part of a token, as nobody has verified it. Raises what is `BROKEN`."""
    text = token.split(".")[number]
    try:
        return object_in(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except binascii.Error as error:
        raise ValueError("not base64") from error


def object_in(text: bytes) -> dict[str, Any]:
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
