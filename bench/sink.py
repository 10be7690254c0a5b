"""The third party of every comparison: takes webhooks, answers 200 at once, and remembers when each came.

`python -m bench.sink PORT`. `GET /count` says how many came, `GET /arrivals` lists the number of each call and the
moment (`time.monotonic`) when it arrived; `DELETE /arrivals` forgets them.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time

_ORDER = re.compile(rb'"order": ?"(\d+)"')
_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n", re.IGNORECASE)
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

_arrivals: list[tuple[bytes, float]] = []


class _Receiver(asyncio.Protocol):
    """One connection, over which calls come one after the other."""

    def __init__(self) -> None:
        self._received = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n") + 4) > 3:
            length = _LENGTH.search(self._received, 0, end)
            whole = end + (int(length[1]) if length else 0)
            if len(self._received) < whole:
                return
            call, self._received = self._received[:whole], self._received[whole:]
            assert self._transport is not None
            self._transport.write(_answer(call))
            if b"\r\nConnection: close\r\n" in call:
                self._transport.close()


def _answer(call: bytes) -> bytes:
    if call.startswith(b"POST"):
        order = _ORDER.search(call)
        _arrivals.append((order[1] if order else b"0", time.monotonic()))
        return _OK
    if call.startswith(b"DELETE"):
        _arrivals.clear()
        return _OK
    is_count = call.startswith(b"GET /count ")
    content = b"%d" % len(_arrivals) if is_count else b"".join(b"%s %.6f\n" % one for one in _arrivals)
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Receiver, "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
