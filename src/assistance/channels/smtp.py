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

from assistance.channels.kept import Kept
from assistance.channels.smtp_address import SmtpServer
from assistance.channels.wire import (
    NotConnected,
    connect,
    ended_at,
    explain,
    peer_has_left,
    secure,
    tls_context,
    wait_until,
)
from assistance.domain.outcome import NO_TIME
from assistance.runtime.clock import Deadline, monotonic

_MOST_REPLY_BYTES = 64 * 1024
_LINE_STARTING_WITH_A_DOT = re.compile(rb"(?m)^\.")
_TAKEN = 250
#: Many servers take no more on one connection.
_MOST_MESSAGES = 50
_THE_SERVER = "smtp"  # a channel has one


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


@contextlib.contextmanager
def conversation(
    server: SmtpServer, deadline: Deadline, kept: Kept[Conversation] | None = None
) -> Iterator[Conversation]:
    """A greeted, encrypted (where asked for) and authenticated connection.

    With `kept` it may be one on which an earlier message was taken, and is left for the next one if this one is.
    Raises `NotConnected`, `SmtpRefused` or `LostBeforeTheDot`, also from within the block.
    """
    if deadline.has_passed:
        raise NotConnected(NO_TIME, "no time was left to send")
    talk = _earlier(kept, deadline) if kept is not None else None
    sock = talk.sock if talk is not None else connect(server.host, server.port, deadline)
    stays = False
    try:
        with ended_at(sock, deadline):
            if talk is None:
                if server.implicit_tls:
                    sock = secure(sock, server.host)
                talk = Conversation(sock, server)
            with _before_the_dot():
                talk.open()
                yield talk
            stays = kept is not None and talk.may_go_on
    finally:
        if kept is not None and talk is not None and stays:
            kept.put(_THE_SERVER, talk)
        elif talk is not None:
            talk.close()
        if not stays:
            sock.close()


def _earlier(kept: Kept[Conversation], deadline: Deadline) -> Conversation | None:
    """A conversation that the server is willing to go on with; nothing of the new message has been said on it."""
    while (talk := kept.take(_THE_SERVER)) is not None:
        with contextlib.suppress(NotConnected, SmtpRefused, LostBeforeTheDot):
            with ended_at(talk.sock, deadline), _before_the_dot():
                talk.begin_again(deadline)
            return talk
        talk.close()
    return None


class Conversation:
    """The commands that a channel needs, in the order in which they are needed."""

    def __init__(self, sock: socket.socket, server: SmtpServer) -> None:
        self._server = server
        self._smtp = _Client(sock, server)
        self._messages = 0
        self._is_open = False
        self.born = monotonic()
        self.may_go_on = False  # the last message was taken, and nothing was begun since

    @property
    def sock(self) -> socket.socket:
        """The connection, which STARTTLS may have exchanged for another."""
        assert self._smtp.sock is not None
        return self._smtp.sock

    def begin_again(self, deadline: Deadline) -> None:
        """Ask whether the server takes another message on the same connection."""
        wait_until(self.sock, deadline)
        self.may_go_on = False
        self._expect("reset", (250,), self._smtp.rset())

    def open(self) -> None:
        """Greet, encrypt, authenticate, unless that is done."""
        if self._is_open:
            return
        self._expect("greeting", (220,), self._smtp.connect(self._server.host, self._server.port))
        self._greet()
        if self._server.starttls:
            self._encrypt()
        if self._server.user and self._server.password:
            self._log_in(self._server.user, self._server.password)
        self._is_open = True

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
        self._messages += 1
        self.may_go_on = code == _TAKEN and self._messages < _MOST_MESSAGES
        return code, text

    def leave(self) -> None:
        """Say good-bye without waiting for the answer: whatever it is, it changes nothing."""
        with contextlib.suppress(OSError, smtplib.SMTPException):
            self._smtp.putcmd("QUIT")

    def close(self) -> None:
        """Free the connection."""
        self._smtp.close()

    def retire(self) -> None:
        """Say good-bye, unless that would take a moment, and free the connection."""
        with contextlib.suppress(OSError):
            if self._smtp.sock is not None:
                self._smtp.sock.settimeout(0)
            self.leave()
            self.close()

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
