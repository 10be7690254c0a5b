"""The proxy: one thread with an event loop, so that a connection can be reset without anybody else holding it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import threading
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from tests.proxy.connection import Connection, close
from tests.proxy.toxics import Direction, DropAfter, Timeout, Toxic

_SILENCE = Timeout()
_ANSWER_SECONDS = 5.0


class Proxy:
    """Forwards to the server of a URL; `url` is the same URL by way of the proxy.

    Toxics apply to the connections that there are and to those that come. `seed` decides every deviation.
    """

    def __init__(self, server_url: str, *, seed: int = 0) -> None:
        parts = urlsplit(server_url)
        self._target = (parts.hostname or "", parts.port or 0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        credentials, at, _ = parts.netloc.rpartition("@")
        self.url = urlunsplit(parts._replace(netloc=f"{credentials}{at}127.0.0.1:{self.port}"))
        self.random = random.Random(seed)
        self.hits = 0  #: how often a toxic did something to a connection
        self._toxics: tuple[tuple[Toxic, Direction], ...] = ()
        self._turns = threading.Lock()
        self._cut: DropAfter | None = None
        self._connections: set[Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()
        starting = asyncio.start_server(self._accept, sock=self._listener)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(_ANSWER_SECONDS)

    def add(self, toxic: Toxic, direction: Direction = "both") -> None:
        """Let `toxic` act from now on."""
        self._change((*self._toxics, (toxic, direction)))

    def remove(self, toxic: Toxic) -> None:
        """End what equals `toxic`; nothing happens when there is none."""
        self._change(tuple(each for each in self._toxics if each[0] != toxic))

    def heal(self) -> None:
        """End every toxic; what was held back goes through at once."""
        self._cut = None
        self._change(())

    def go_silent(self) -> None:
        """Forward nothing more in either direction, and close nothing."""
        self.add(_SILENCE)

    def talk_again(self) -> None:
        self.remove(_SILENCE)

    def cut_at(self, word: bytes | None, *, forwarded: bool = False) -> None:
        """End a connection when a client says `word`; with `forwarded` the server still hears it."""
        if self._cut is not None:
            self.remove(self._cut)
        self._cut = None if word is None else DropAfter(re.escape(word), forwarded)
        if self._cut is not None:
            self.add(self._cut, "up")

    def active(self, direction: Direction) -> tuple[Toxic, ...]:
        """The toxics of one direction, in the order in which they were added."""
        return tuple(toxic for toxic, where in self._toxics if where in (direction, "both"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result(_ANSWER_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_ANSWER_SECONDS)
        self._loop.close()

    def _change(self, toxics: tuple[tuple[Toxic, Direction], ...]) -> None:
        with self._turns:
            self._toxics = toxics
        self._loop.call_soon_threadsafe(self._tell)

    # What follows runs in the proxy's thread.

    def _tell(self) -> None:
        for connection in self._connections:
            connection.toxics_changed()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server = await asyncio.open_connection(*self._target)
        except OSError:
            close(writer, reset=True)  # the nearest thing to a refusal that is left
            return
        connection = Connection(self, (reader, writer), server)
        self._connections.add(connection)
        try:
            # Cancelled at the end only; Python 3.11 would report it as a mistake of ours.
            with contextlib.suppress(asyncio.CancelledError):
                await connection.run()
        finally:
            self._connections.discard(connection)

    async def _shut_down(self) -> None:
        self._server.close()
        for connection in list(self._connections):
            connection.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0)  # transports close their sockets one turn later
