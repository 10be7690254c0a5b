"""Free TCP ports of this machine."""

from __future__ import annotations

import contextlib
import errno
import socket
from pathlib import Path

from assistance.runtime.clock import random_fraction

_LOWEST = 15000
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """A port that nobody uses now, outside the range the kernel gives to outgoing connections.

    Within that range a client that keeps trying to reach a server which is down can be connected to itself, and any
    outgoing connection may take the port while the server restarts.
    """
    first_ephemeral = 32768
    with contextlib.suppress(OSError, ValueError, IndexError):
        first_ephemeral = int(_EPHEMERAL_RANGE.read_text(encoding="ascii").split()[0])
    width = first_ephemeral - _LOWEST
    for _ in range(100 if width > 0 else 0):
        port = _LOWEST + int(random_fraction() * width)
        if is_free(port):
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True
