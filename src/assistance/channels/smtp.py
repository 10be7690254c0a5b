"""One SMTP conversation on one connection, with a clear line between "not sent" and "may have been sent".

The standard library's client speaks the protocol; what it lacks is added here: an end by the deadline, replies of
bounded size, and the knowledge of whether the final dot went out.
"""

from __future__ import annotations

import contextlib
import re
import smtplib
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from assistance.channels.wire import NotConnected, connect, ended_at, explain, peer_has_left, secure, tls_context
from assistance.domain.outcome import NO_TIME
from assistance.runtime.clock import Deadline

_MOST_REPLY_BYTES = 64 * 1024
_LINE_STARTING_WITH_A_DOT = re.compile(rb"(?m)^\.")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class SmtpRefused(Exception):
    """The server said no at some stage before the final dot; nothing was sent."""

    def __init__(self, stage: str, code: int, text: bytes) -> None:
        super().__init__(f"{stage}: {code} {text.decode('ascii', 'replace')[:200]}")
        self.stage = stage
        self.code = code


class LostBeforeTheDot(Exception):
    """The connection ended before the message was complete; the server cannot have taken it."""


class LostAfterTheDot(Exception):
    """The message went out completely, and no answer that can be understood came back."""


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


@contextlib.contextmanager
def conversation(server: SmtpServer, deadline: Deadline) -> Iterator[Conversation]:
    """A greeted, encrypted (where asked for) and authenticated connection.

    Raises `NotConnected`, `SmtpRefused` or `LostBeforeTheDot`, also from within the block.
    """
    if deadline.has_passed:
        raise NotConnected(NO_TIME, "no time was left to send")
    sock = connect(server.host, server.port, deadline)
    with sock, ended_at(sock, deadline):
        if server.implicit_tls:
            sock = secure(sock, server.host)
        with sock, _before_the_dot():
            talk = Conversation(sock, server)
            try:
                talk.open()
                yield talk
            finally:
                talk.close()


class Conversation:
    """The commands that a channel needs, in the order in which they are needed."""

    def __init__(self, sock: socket.socket, server: SmtpServer) -> None:
        self._server = server
        self._smtp = _Client(sock, server)

    def open(self) -> None:
        """Greet, encrypt, authenticate."""
        self._expect("greeting", (220,), self._smtp.connect(self._server.host, self._server.port))
        self._greet()
        if self._server.starttls:
            self._encrypt()
        if self._server.user and self._server.password:
            self._log_in(self._server.user, self._server.password)

    def envelope(self, sender: str, to: list[str]) -> dict[str, tuple[int, bytes]]:
        """Name sender and recipients; what the server answered for each recipient that it refused."""
        self._expect("sender", (250,), self._smtp.mail(sender))
        refused = {}
        for address in to:
            code, text = self._smtp.rcpt(address)
            if code in (-1, 421):
                raise SmtpRefused("recipient", code, text)
            if code not in (250, 251):
                refused[address] = (code, text)
        return refused

    def data(self, wire: bytes) -> tuple[int, bytes]:
        """Send the message and give the server's answer to it.

        Raises `LostAfterTheDot` when no answer came back after the message was complete.
        """
        self._expect("data", (354,), self._smtp.docmd("DATA"))
        body = _LINE_STARTING_WITH_A_DOT.sub(b"..", wire)
        self._smtp.send(body if body.endswith(b"\r\n") else body + b"\r\n")
        if self._smtp.sock is None or peer_has_left(self._smtp.sock):
            raise LostBeforeTheDot("the server left while the message was being sent")
        try:
            self._smtp.send(b".\r\n")
            code, text = self._smtp.getreply()
        except (OSError, smtplib.SMTPException) as error:
            raise LostAfterTheDot("the connection ended before the server answered") from error
        if not 200 <= code <= 599:
            raise LostAfterTheDot("the server's answer cannot be understood")
        return code, text

    def leave(self) -> None:
        """Say good-bye without waiting for the answer: whatever it is, it changes nothing."""
        with contextlib.suppress(OSError, smtplib.SMTPException):
            self._smtp.putcmd("QUIT")

    def close(self) -> None:
        """Free the connection, which STARTTLS may have exchanged for another."""
        self._smtp.close()

    def _greet(self) -> None:
        try:
            self._smtp.ehlo_or_helo_if_needed()
        except smtplib.SMTPHeloError as error:
            raise SmtpRefused("greeting", error.smtp_code, _bytes(error.smtp_error)) from error

    def _encrypt(self) -> None:
        # A server that offers no encryption where it was asked for may be somebody in between: nothing is said to it.
        if not self._smtp.has_extn("starttls"):
            raise SmtpRefused("starttls", 454, b"encryption is not offered")
        try:
            code, text = self._smtp.starttls(context=tls_context())
        except OSError as error:
            raise NotConnected("tls_failed", f"{self._server.host}: {explain(error)}") from error
        self._expect("starttls", (220,), (code, text))
        self._greet()

    def _log_in(self, user: str, password: str) -> None:
        try:
            self._smtp.login(user, password)
        except smtplib.SMTPAuthenticationError as error:
            raise SmtpRefused("login", error.smtp_code, _bytes(error.smtp_error)) from error
        except smtplib.SMTPServerDisconnected:
            raise
        except smtplib.SMTPException as error:
            raise SmtpRefused("login", 504, b"the server offers no way to log in that is known here") from error

    def _expect(self, stage: str, codes: tuple[int, ...], reply: tuple[int, bytes]) -> None:
        if reply[0] not in codes:
            raise SmtpRefused(stage, *reply)


class _Client(smtplib.SMTP):
    """The standard library's client on a connection that is there already."""

    def __init__(self, sock: socket.socket, server: SmtpServer) -> None:
        own = sock.getsockname()[0]
        # The address literal is always true; the library's default asks the name service, which may hang.
        super().__init__(local_hostname=f"[IPv6:{own}]" if ":" in own else f"[{own}]")
        self._connected = sock
        self._host = server.host  # the name that STARTTLS checks the certificate against

    def _get_socket(self, host: str, port: int, timeout: float | None) -> socket.socket:  # noqa: ARG002 (overrides)
        return self._connected

    def getreply(self) -> tuple[int, bytes]:
        """Read one reply, of bounded size; code -1 stands for anything that is not one."""
        assert self.sock is not None
        if self.file is None:
            self.file = self.sock.makefile("rb")
        lines: list[bytes] = []
        size = 0
        while True:
            try:
                line = self.file.readline(_MOST_REPLY_BYTES)
            except OSError as error:
                self.close()
                raise smtplib.SMTPServerDisconnected("the connection broke") from error
            if not line.endswith(b"\n") and len(line) < _MOST_REPLY_BYTES:  # half a reply is no reply
                self.close()
                raise smtplib.SMTPServerDisconnected("the connection was closed")
            size += len(line)
            if not re.match(rb"[2-5][0-9][0-9][ \-\r\n]", line) or size > _MOST_REPLY_BYTES:
                return -1, b"not an SMTP reply"
            lines.append(line[4:].strip())
            if line[3:4] != b"-":
                return int(line[:3]), b"\n".join(lines)


@contextlib.contextmanager
def _before_the_dot() -> Iterator[None]:
    try:
        yield
    except (NotConnected, SmtpRefused, LostAfterTheDot, LostBeforeTheDot):
        raise
    except (OSError, smtplib.SMTPException) as error:
        raise LostBeforeTheDot(f"the connection ended early ({type(error).__name__})") from error


def _bytes(text: str | bytes) -> bytes:
    return text.encode("ascii", "replace") if isinstance(text, str) else text
