"""An SMTP server that refuses, drops or stalls at the stage it is told to, and remembers what it took."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from assistance.testing.behaviour import Script, Trouble, close
from assistance.testing.tcp_server import TcpServer


@dataclass(frozen=True, kw_only=True)
class Mail:
    """A mail that was taken: its envelope, and the bytes between DATA and the dot, dot-stuffing undone."""

    sender: str
    to: tuple[str, ...]
    wire: bytes


@dataclass(frozen=True, kw_only=True)
class Says:
    """Answers instead of the usual ones, by stage.

    Stages: `greeting`, `ehlo`, `starttls`, `auth`, `reset`, `mail`, `rcpt`, `data` (before the text) and `message`
    (after the dot). An address as key answers for that recipient alone. An empty answer closes the connection at that
    stage; an empty `text` does so while the text is expected.
    """

    answers: Mapping[str, str] = field(default_factory=dict)


_USUAL = {
    "greeting": "220 fake ESMTP",
    "mail": "250 ok",
    "rcpt": "250 ok",
    "data": "354 go on",
    "message": "250 taken",
    "reset": "250 ok",
    "starttls": "220 go on",
}
_END = b"\r\n.\r\n"


class FakeSmtp(TcpServer):
    """Takes mail. With `tls` it offers STARTTLS (or speaks TLS at once); with `login` it wants AUTH PLAIN."""

    def __init__(
        self, *, tls: ssl.SSLContext | None = None, implicit_tls: bool = False, login: tuple[str, str] | None = None
    ) -> None:
        super().__init__()
        self.script = Script()
        self.mails: list[Mail] = []
        self.commands: list[str] = []  #: every command that came, as written
        self._tls = tls
        self._implicit_tls = implicit_tls
        self.login = login
        self.keeps = False  #: take several messages on one connection; else RSET is refused

    @property
    def url(self) -> str:
        """The address of the server, without credentials."""
        return f"smtp://127.0.0.1:{self.port}"

    @property
    def visible(self) -> list[Any]:
        """The mails that were taken."""
        return self.mails

    @property
    def offers_tls(self) -> bool:
        """Whether STARTTLS is among the extensions."""
        return self._tls is not None and not self._implicit_tls

    def says(self, **answers: str) -> None:
        """Script the answers of the next connection."""
        self.script.upcoming.append(Says(answers=answers))

    def provoke(self, trouble: Trouble) -> None:
        """Let a trouble happen to the next connection."""
        if trouble is Trouble.REFUSED:
            self.refuse()
        elif trouble is Trouble.BUSY:
            self.says(rcpt="450 busy")
        else:
            self.script.upcoming.append(trouble)

    def serve(self, sock: socket.socket) -> None:
        """Hold one conversation."""
        behaviour = self.script.next_or(Says())
        if behaviour is Trouble.CUT_UNREAD:
            close(sock, reset=True)
            return
        if self._implicit_tls and self._tls:
            sock = self._tls.wrap_socket(sock, server_side=True)
        with contextlib.closing(_Session(self, sock, behaviour)) as session:
            session.run()


class _Session:
    def __init__(self, server: FakeSmtp, sock: socket.socket, behaviour: Any) -> None:
        self._server = server
        self._sock = sock
        self._stream: BinaryIO = sock.makefile("rb")
        self._says: Mapping[str, str] = behaviour.answers if isinstance(behaviour, Says) else {}
        self._trouble = behaviour if isinstance(behaviour, Trouble) else None
        self._encrypted = False
        self._sender = ""
        self._to: list[str] = []

    def close(self) -> None:
        self._stream.close()
        self._sock.close()

    def run(self) -> None:
        if not self._reply("greeting"):
            return
        while line := self._stream.readline():
            command = line.decode("utf-8", "replace").strip()
            self._server.commands.append(command)
            if not self._obey(command.partition(" ")[0].upper(), command):
                return

    def _obey(self, verb: str, command: str) -> bool:
        """Carry a command out; false when the conversation is over."""
        if verb in ("EHLO", "HELO"):
            return self._reply("ehlo", self._extensions())
        if verb == "STARTTLS" and self._server.offers_tls:
            return self._encrypt()
        if verb == "AUTH":
            return self._reply("auth", "235 welcome" if self._is_right(command) else "535 wrong")
        if verb == "MAIL":
            self._sender, self._to = _address(command), []
            return self._reply("mail")
        if verb == "RSET" and self._server.keeps:
            return self._reply("reset")
        if verb == "RCPT":
            return self._recipient(_address(command))
        if verb == "DATA":
            return self._data()
        self._send("221 bye" if verb == "QUIT" else "502 unknown")
        return verb != "QUIT"

    def _recipient(self, address: str) -> bool:
        answer = self._says.get(address, self._says.get("rcpt", _USUAL["rcpt"]))
        if answer.startswith("2"):
            self._to.append(address)
        return self._reply("rcpt", answer, override=False)

    def _data(self) -> bool:
        if self._says.get("text") == "":
            # Corked, the answer and the end of the connection travel together: the client sees both at once.
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
            self._reply("data")
            return False
        return self._reply("data") and ("data" in self._says or self._message())

    def _message(self) -> bool:
        wire = b"\r\n"
        while not wire.endswith(_END):
            line = self._stream.readline()
            if not line:
                return False
            wire += line
        text = wire[2 : -len(_END) + 2].replace(b"\r\n..", b"\r\n.")
        text = text[1:] if text.startswith(b"..") else text
        if self._says.get("message", "250").startswith("2") or not self._says["message"]:
            self._server.mails.append(Mail(sender=self._sender, to=tuple(self._to), wire=text))
        return self._after_message()

    def _after_message(self) -> bool:
        if self._trouble is None:
            return self._reply("message")
        if self._trouble is Trouble.SILENT:
            self._server.stopped.wait()
        elif self._trouble is Trouble.GARBAGE:
            self._send("\x00\xff this is no SMTP")
        elif self._trouble is Trouble.DRIP:
            self._drip()
        else:
            self._stream.close()
            close(self._sock, reset=self._trouble is Trouble.CUT_BY_RST)
        return False

    def _drip(self) -> None:
        for character in "250 " + "x" * 10_000:
            self._sock.sendall(character.encode())
            if self._server.stopped.wait(0.05):
                return

    def _encrypt(self) -> bool:
        assert self._server._tls is not None  # noqa: SLF001 (the session is a part of the server)
        if not self._reply("starttls") or "starttls" in self._says:
            return "starttls" in self._says
        self._stream.close()
        self._sock = self._server._tls.wrap_socket(self._sock, server_side=True)  # noqa: SLF001
        self._stream = self._sock.makefile("rb")
        self._encrypted = True
        return True

    def _extensions(self) -> str:
        lines = ["fake", "8BITMIME"]
        if self._server.offers_tls and not self._encrypted:
            lines.append("STARTTLS")
        if self._server.login:
            lines.append("AUTH PLAIN")
        return "\r\n".join(f"250-{line}" for line in lines) + "\r\n250 SIZE 1000000"

    def _is_right(self, command: str) -> bool:
        user, password = self._server.login or ("", "")
        return command.rpartition(" ")[2] == base64.b64encode(f"\0{user}\0{password}".encode()).decode()

    def _reply(self, stage: str, usual: str | None = None, *, override: bool = True) -> bool:
        answer = self._says.get(stage, usual or _USUAL.get(stage, "250 ok")) if override else usual or ""
        if answer:
            self._send(answer)
        return bool(answer)

    def _send(self, line: str) -> None:
        self._sock.sendall(line.encode("latin-1") + b"\r\n")


def _address(command: str) -> str:
    return command.partition("<")[2].partition(">")[0]
