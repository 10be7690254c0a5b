"""A TCP proxy on loopback that can go silent or cut a connection at a chosen word, as networks do."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit


class Proxy:
    """Forwards to the server of a URL; `url` is the same URL by way of the proxy."""

    def __init__(self, server_url: str) -> None:
        parts = urlsplit(server_url)
        self._target = (parts.hostname or "", parts.port or 0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        credentials, at, _ = parts.netloc.rpartition("@")
        self.url = urlunsplit(parts._replace(netloc=f"{credentials}{at}127.0.0.1:{port}"))
        self._talking = threading.Event()
        self._talking.set()
        self._cut_at: bytes | None = None
        self._forward_the_cut = False
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def go_silent(self) -> None:
        """Forward nothing more in either direction, and close nothing."""
        self._talking.clear()

    def talk_again(self) -> None:
        self._talking.set()

    def cut_at(self, word: bytes | None, *, forwarded: bool = False) -> None:
        """End a connection when a client says `word`; with `forwarded` the server still hears it."""
        self._cut_at, self._forward_the_cut = word, forwarded

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._listener.close()
        self._talking.set()
        for one in self._sockets:
            _end(one)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, from_client: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._talking.wait()
                cut = from_client and self._cut_at is not None and self._cut_at in data
                if cut and self._forward_the_cut:
                    _end(source)  # first, so that no answer can come through
                    sink.sendall(data)
                    return  # the other direction ends the server's side once it has answered
                if cut:
                    break
                sink.sendall(data)
        _end(source)
        _end(sink)


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
