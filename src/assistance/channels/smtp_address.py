"""Where mail is handed in: reads the URL of a mail server."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, kw_only=True, slots=True)
class SmtpServer:
    """Where mail is handed in, and how."""

    host: str
    port: int
    implicit_tls: bool
    starttls: bool
    user: str | None
    password: str | None = field(repr=False)


def parse_server(url: str) -> SmtpServer:
    """Read `smtp://user:pass@host:587?starttls=1` or `smtps://user:pass@host`.

    Raises `ValueError` with a sentence that quotes no secret; credentials are never sent unencrypted, except to this
    machine itself.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname or parts.path.strip("/") or parts.fragment:
        raise ValueError("the URL must look like smtp://user:pass@host:587?starttls=1 or smtps://user:pass@host")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if query.pop("starttls", "0") not in ("0", "1") or query:
        raise ValueError("the URL knows one option, starttls=1")
    implicit_tls, starttls = parts.scheme == "smtps", parts.query == "starttls=1"
    if implicit_tls and starttls:
        raise ValueError("smtps:// is encrypted from the start and takes no starttls=1")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if not (user + password).isascii() or not (user + password + " ").isprintable() or bool(user) != bool(password):
        raise ValueError("the URL needs a user and a password, both in ASCII, or neither")
    if user and not implicit_tls and not starttls and parts.hostname not in _LOOPBACK:
        raise ValueError("a password would be sent unencrypted: use smtps:// or starttls=1")
    return SmtpServer(
        host=parts.hostname,
        port=parts.port or (465 if implicit_tls else 587),
        implicit_tls=implicit_tls,
        starttls=starttls,
        user=user or None,
        password=password or None,
    )
