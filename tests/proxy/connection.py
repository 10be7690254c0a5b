"""One connection through the proxy: two flows, each with a reader and a writer, and what toxics do to them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import struct
from typing import Protocol, TypeAlias, TypeVar

from tests.proxy.toxics import (
    Bandwidth,
    Direction,
    DropAfter,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
    Toxic,
)

Kind = TypeVar("Kind")
Stream: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_CHUNK = 65536
#: Pieces that are read ahead; more would hide from the sender that its receiver is slow.
_AHEAD = 64
#: How much of the last piece is looked at again, so that a match across two pieces is found.
_TAIL = 256
#: A slow stream is written this often per second, so that healing is felt at once.
_WRITES_PER_SECOND = 20


class Owner(Protocol):
    """What a connection needs of its proxy."""

    random: random.Random
    hits: int

    def active(self, direction: Direction) -> tuple[Toxic, ...]: ...


class Connection:
    """A client and a server that think that they talk to each other."""

    def __init__(self, owner: Owner, client: Stream, server: Stream) -> None:
        self.owner = owner
        self._client, self._server = client[1], server[1]
        self._flows = (_Flow(self, "up", client, server[1]), _Flow(self, "down", server, client[1]))
        self._timers: dict[int, tuple[Toxic, asyncio.TimerHandle]] = {}
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Forward until either side ends the connection and both sides know."""
        self.toxics_changed()
        parts = [asyncio.ensure_future(part) for flow in self._flows for part in (flow.read(), flow.write())]
        try:
            await self._over.wait()
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    def toxics_changed(self) -> None:
        """Start and stop the clocks of toxics that act by themselves, and let whoever waits look again."""
        acting = {id(toxic): toxic for flow in self._flows for toxic in self.owner.active(flow.direction)}
        for key in [key for key, (toxic, _) in self._timers.items() if acting.get(key) is not toxic]:
            self._timers.pop(key)[1].cancel()
        for key, toxic in acting.items():
            if key in self._timers:
                continue
            if isinstance(toxic, ResetPeer):
                self._timers[key] = toxic, self._end_in(toxic.after_ms, reset=True)
            elif isinstance(toxic, Timeout) and toxic.ms:
                self._timers[key] = toxic, self._end_in(toxic.ms, reset=False)
        for flow in self._flows:
            flow.look_again()

    def end(self, *, reset: bool = False) -> None:
        """Close both sides, with a RST if asked."""
        for _, timer in self._timers.values():
            timer.cancel()
        for writer in (self._client, self._server):
            close(writer, reset=reset)
        self._over.set()

    def abort(self) -> None:
        """Close both sides and throw away what has not left yet."""
        self.end()
        for writer in (self._client, self._server):
            writer.transport.abort()

    def _end_in(self, ms: float, *, reset: bool) -> asyncio.TimerHandle:
        def act() -> None:
            self.owner.hits += 1
            self.end(reset=reset)

        return asyncio.get_running_loop().call_later(ms / 1000, act)


class _Flow:
    """One direction."""

    def __init__(
        self, connection: Connection, direction: Direction, source: Stream, sink: asyncio.StreamWriter
    ) -> None:
        self.direction = direction
        self._changed = asyncio.Event()
        self._connection = connection
        self._owner = connection.owner
        self._reader, self._source = source
        self._sink = sink
        self._waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_AHEAD)
        self._limited = 0
        self._tail = b""

    def look_again(self) -> None:
        """The toxics are others now."""
        if self._one(LimitData) is None:
            self._limited = 0
        self._changed.set()

    async def read(self) -> None:
        data = b"."
        while data:
            try:
                data = await self._reader.read(_CHUNK)
            except OSError:
                data = b""
            await self._waiting.put((_now() + self._delay(), data))

    async def write(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                due, data = await self._waiting.get()
                await self._pause_until(due, Latency)
                await self._hold()
                if not data or self._sink.is_closing():
                    break
                await self._send(data)
        if slow := self._one(SlowClose):
            self._owner.hits += 1
            await self._pause_until(_now() + slow.ms / 1000, SlowClose)
        self._connection.end()

    def _delay(self) -> float:
        latency = self._one(Latency)
        if latency is None:
            return 0.0
        self._owner.hits += 1
        return max(0.0, latency.ms + self._owner.random.uniform(-latency.jitter, latency.jitter)) / 1000

    async def _hold(self) -> None:
        while self._one(Timeout) is not None:
            self._owner.hits += 1
            self._changed.clear()
            await self._changed.wait()

    async def _pause_until(self, due: float, *kinds: type[Toxic]) -> None:
        """Wait, unless the toxics of these kinds end first."""
        while any(self._one(kind) for kind in kinds) and (seconds := due - _now()) > 0:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), seconds)

    async def _send(self, data: bytes) -> None:
        drop = self._one(DropAfter)
        if drop is not None and self._matches(drop.regex, data):
            await self._drop(data, forwarded=drop.forwarded)
        self._tail = data[-_TAIL:]
        limit = self._one(LimitData)
        if limit is not None:
            data = data[: limit.bytes - self._limited]
            self._limited += len(data)
        while data:
            data = await self._send_piece(data)
        if limit is not None and self._limited >= limit.bytes:
            self._owner.hits += 1
            self._connection.end()

    async def _send_piece(self, data: bytes) -> bytes:
        """Send as much as may go at once and wait as long as that takes; the rest."""
        bandwidth, slicer = self._one(Bandwidth), self._one(Slicer)
        rate = bandwidth.kb_per_second * 1000 if bandwidth else 0.0
        size, seconds = len(data), 0.0
        if rate:
            size = min(size, max(1, round(rate / _WRITES_PER_SECOND)))
        if slicer:
            size, seconds = min(size, slicer.size), slicer.pause_us / 1e6
        if rate:
            seconds = max(seconds, size / rate)
        self._sink.write(data[:size])
        await self._sink.drain()
        if bandwidth or slicer:
            self._owner.hits += 1
            await self._pause_until(_now() + seconds, Bandwidth, Slicer)
        return data[size:]

    async def _drop(self, data: bytes, *, forwarded: bool) -> None:
        """End the connection; does not return."""
        self._owner.hits += 1
        if not forwarded:
            self._connection.end()
        else:
            close(self._source, reset=False)  # first, so that no answer can come through
            self._sink.write(data)
        # The other flow ends the receiver's side once it has answered, because its own way on is closed.
        await asyncio.Event().wait()

    def _matches(self, regex: bytes, data: bytes) -> bool:
        """Whether a match ends in this piece; one that ended in the last piece was let through."""
        return any(match.end() > len(self._tail) for match in re.finditer(regex, self._tail + data))

    def _one(self, kind: type[Kind]) -> Kind | None:
        """The newest toxic of this kind."""
        found = [toxic for toxic in self._owner.active(self.direction) if isinstance(toxic, kind)]
        return found[-1] if found else None


def _now() -> float:
    return asyncio.get_running_loop().time()


def close(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    """Close a stream after what was written, or with a RST."""
    if reset:
        sock = writer.get_extra_info("socket")
        with contextlib.suppress(OSError):  # it is closed already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    else:
        writer.close()
