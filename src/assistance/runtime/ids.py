"""Ids made in this process: UUIDv7 keys, short human codes, tokens."""

from __future__ import annotations

import os
import secrets
import time
import uuid

#: Crockford's base 32: no I, L, O or U, so that a code survives being read aloud.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_BITS = 5
_REF_LENGTH = 6


def uuid7() -> uuid.UUID:
    """A time-ordered UUID (RFC 9562, version 7, with a sub-millisecond fraction as in its method 3)."""
    nanoseconds = time.time_ns()
    milliseconds, rest = divmod(nanoseconds, 1_000_000)
    fraction = (rest << 12) // 1_000_000
    tail = int.from_bytes(os.urandom(8)) & ((1 << 62) - 1)
    return uuid.UUID(int=milliseconds << 80 | 7 << 76 | fraction << 64 | 2 << 62 | tail)


def token() -> uuid.UUID:
    """A random token that fences a lease."""
    return uuid.uuid4()


def new_ref() -> str:
    """A short code for people, such as `A-7F3K9Q`; unique only because the database checks it."""
    number = secrets.randbits(_BITS * _REF_LENGTH)
    return "A-" + "".join(_ALPHABET[number >> shift & 31] for shift in range(0, _BITS * _REF_LENGTH, _BITS))


def readable_name(length: int) -> str:
    """A short name that people can type and that is no word: it starts with a digit, and is in lower case."""
    first, *rest = secrets.choice(_ALPHABET[:10]), *(secrets.choice(_ALPHABET) for _ in range(length - 1))
    return (first + "".join(rest)).lower()


def secret_bytes(count: int) -> bytes:
    """Random bytes that nobody can guess."""
    return secrets.token_bytes(count)


def worker_name(service: str) -> str:
    """Who is doing the work, for attempts and logs: service, host and process id."""
    return f"{service}@{os.uname().nodename}:{os.getpid()}"
