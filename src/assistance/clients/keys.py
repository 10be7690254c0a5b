"""API keys: how they are made and read, and what is kept of them.

A key is `asst_<name>_<secret>`: a mark by which scanners of repositories know it, a readable name by which people and
the table know it, and 32 random bytes. With so many of them a plain SHA-256 is as good as a slow digest.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field

from assistance.runtime.ids import readable_name, secret_bytes

_NAME_CHARACTERS = 8
_SECRET_BYTES = 32
#: The name starts with a digit, so that no client can be called like a key.
_KEY = re.compile(r"asst_([0-9][0-9a-z]{7})_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiKey:
    """A key in plain text; only its prefix and its digest are ever stored."""

    prefix: str
    text: str = field(repr=False)

    @property
    def digest(self) -> bytes:
        """What is kept of the key."""
        return hashlib.sha256(self.text.encode("ascii")).digest()


def new_key() -> ApiKey:
    """A key that nobody has seen yet."""
    prefix = readable_name(_NAME_CHARACTERS)
    secret = base64.urlsafe_b64encode(secret_bytes(_SECRET_BYTES)).rstrip(b"=").decode()
    return ApiKey(prefix=prefix, text=f"asst_{prefix}_{secret}")


def parse_key(text: str) -> ApiKey | None:
    """The key that a text is, or none when it cannot be one."""
    match = _KEY.fullmatch(text)
    return ApiKey(prefix=match[1], text=text) if match else None
