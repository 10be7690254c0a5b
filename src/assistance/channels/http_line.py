"""A connection that speaks HTTP, one call after the other."""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
from typing import Any, cast

from assistance.runtime.clock import monotonic


class Line:
    """A connection to a server, and what came on it. `may_stay` says whether another call may use it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.born = monotonic()
        self.may_stay = False
        self._arrived = _Arrived(sock)
        self._reader = _Reader(self._arrived)

    def answer_to(self, method: str) -> http.client.HTTPResponse:
        """Read the head of the answer to a request that was sent."""
        # The library asks its socket for nothing but a file to read from.
        response = http.client.HTTPResponse(cast("socket.socket", self), method=method)
        response.begin()
        return response

    def makefile(self, *_: Any) -> io.BufferedReader:
        """The same one for all answers, so that what came too much is noticed."""
        return self._reader

    def is_between_calls(self, response: http.client.HTTPResponse) -> bool:
        """Whether this answer, of which all was read, had one clear end, and nothing follows it."""
        lengths = response.headers.get_all("content-length", [])
        codings = response.headers.get_all("transfer-encoding", [])
        is_framed = len(lengths) + len(codings) <= 1 and all(coding.lower() == "chunked" for coding in codings)
        is_final = response.status >= 200 and response.isclosed() and not response.will_close
        return is_framed and is_final and not self._left_over()

    def retire(self) -> None:
        """Close it."""
        with contextlib.suppress(OSError):
            self.sock.close()

    def _left_over(self) -> bool:
        self._arrived.is_shut = True  # what the buffer holds, not what the network may bring
        try:
            return bool(self._reader.peek(1))
        finally:
            self._arrived.is_shut = False


class _Arrived(io.RawIOBase):
    """What comes on a socket, which it does not close."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.is_shut = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        return None if self.is_shut else self._sock.recv_into(buffer)


class _Reader(io.BufferedReader):
    """Outlives the answers, each of which closes its file."""

    def close(self) -> None:
        """Stay open."""
