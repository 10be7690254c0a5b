"""A small threaded server on loopback whose port can be closed at any time."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class TcpServer:
    """Accepts connections and runs `serve` for each in a thread; use it as a context manager."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.stopped = threading.Event()  #: set when the server ends; slow behaviours wait on it
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def serve(self, sock: socket.socket) -> None:
        """Handle one connection; an `OSError` ends it quietly."""
        raise NotImplementedError

    def refuse(self) -> None:
        """Close the port: further connections are refused."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="fake", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopped.set()
        self.refuse()
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            threads = list(self._threads)
        for thread in threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._run, args=(sock,), name="fake connection", daemon=True)
            with self._lock:
                self.connections += 1
                self._open.add(sock)
                self._threads.append(thread)
                thread.start()

    def _run(self, sock: socket.socket) -> None:
        try:
            with sock, contextlib.suppress(OSError):
                self.serve(sock)
        finally:
            with self._lock:
                self._open.discard(sock)
