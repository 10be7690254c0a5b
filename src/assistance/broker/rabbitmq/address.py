"""Where the broker is: reads `ASSISTANCE_BROKER_URL`."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import pika

from assistance.domain.errors import SettingsError

_FORM = "amqp://user:password@host:5672/vhost"
#: Both sides send a sign of life twice in this time, so that also the broker notices when we are gone.
HEARTBEAT_SECONDS = 10
_PORTS = {"amqp": 5672, "amqps": 5671}
_SOCKET_SECONDS = 3.0
_HANDSHAKE_SECONDS = 5.0
#: The broker says when an alarm is over; this only guards against a broker that forgets to.
_BLOCKED_SECONDS = 300.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """One host of the broker; printing it shows no credentials."""

    host: str
    port: int
    vhost: str
    tls: bool
    user: str = field(repr=False)
    password: str = field(repr=False)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def parameters(
        self,
        name: str,
        *,
        socket_seconds: float = _SOCKET_SECONDS,
        handshake_seconds: float = _HANDSHAKE_SECONDS,
    ) -> pika.ConnectionParameters:
        """What pika needs for one attempt to connect; `name` is what the broker's own tools show."""
        return pika.ConnectionParameters(
            host=self.host,
            port=self.port,
            virtual_host=self.vhost,
            credentials=pika.PlainCredentials(self.user, self.password),
            ssl_options=pika.SSLOptions(ssl.create_default_context(), self.host) if self.tls else None,
            heartbeat=HEARTBEAT_SECONDS,
            connection_attempts=1,
            socket_timeout=socket_seconds,
            stack_timeout=handshake_seconds,
            blocked_connection_timeout=_BLOCKED_SECONDS,
            client_properties={"connection_name": name},
        )


def parse_url(url: str) -> tuple[Address, ...]:
    """The hosts that a broker URL names, in its order: `amqp://user:password@host1:5672,host2:5672/vhost`.

    `amqps` encrypts. Raises `SettingsError` with a sentence that repeats nothing of the URL, which holds a password.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _PORTS:
        raise _wrong("it starts with amqp:// or amqps://")
    authority, _, path = rest.partition("/")
    credentials, at, hosts = authority.rpartition("@")
    user, _, password = credentials.partition(":") if at else ("guest", "", "guest")
    if "?" in rest or "#" in rest or "/" in path:
        raise _wrong("?, # and / in a password or virtual host are written percent-encoded, and nothing follows these")
    return tuple(
        Address(
            host=host,
            port=port or _PORTS[scheme],
            vhost=unquote(path) or "/",
            tls=scheme == "amqps",
            user=unquote(user),
            password=unquote(password),
        )
        for host, port in map(_host_and_port, hosts.split(","))
    )


def _host_and_port(text: str) -> tuple[str, int | None]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or any(c.isspace() for c in text) or port == 0 or text.endswith(":"):
        # Raised outside the handler: the original error would quote a part of the URL, perhaps of the password.
        raise _wrong(f"it looks like {_FORM}, several hosts being separated by commas")
    return host, port


def _wrong(hint: str) -> SettingsError:
    return SettingsError(f"ASSISTANCE_BROKER_URL is wrong: {hint}.")
