"""How a scripted server treats its next connection; one list of words for all kinds of servers."""

from __future__ import annotations

import contextlib
import socket
import struct
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Protocol


class Trouble(Enum):
    """What can go wrong with any provider."""

    REFUSED = auto()  #: nobody listens
    BUSY = auto()  #: "not now, try later", clearly said
    CUT_UNREAD = auto()  #: the connection is reset before anything is read
    CUT_BY_FIN = auto()  #: the message is taken, then the connection is closed without an answer
    CUT_BY_RST = auto()  #: the message is taken, then the connection is reset without an answer
    SILENT = auto()  #: the message is taken, then nothing is said
    DRIP = auto()  #: the message is taken, then the answer comes one byte at a time
    GARBAGE = auto()  #: the message is taken, then the answer makes no sense


class Provider(Protocol):
    """What the contract needs of a fake provider; ours and those of other authors."""

    def provoke(self, trouble: Trouble) -> None:
        """Let the trouble happen to the next connection (`REFUSED`: to all from now on)."""

    @property
    def visible(self) -> list[Any]:
        """The messages that people can see, oldest first."""

    @property
    def connections(self) -> int:
        """How many connections were made."""


@dataclass
class Script:
    """The behaviours of the next connections, in order; afterwards all is well."""

    upcoming: list[Any] = field(default_factory=list)

    def next_or(self, usual: Any) -> Any:
        """The next behaviour, or `usual` when none is scripted."""
        return self.upcoming.pop(0) if self.upcoming else usual


def close(sock: socket.socket, *, reset: bool) -> None:
    """Close a connection with a RST or with a FIN."""
    if reset:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    else:
        with contextlib.suppress(OSError):  # the other side was quicker
            sock.shutdown(socket.SHUT_WR)
    sock.close()
