"""What a proxy can do to a connection, as plain data; times are in milliseconds unless a name says otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

#: `up` is from the client to the server.
Direction: TypeAlias = Literal["up", "down", "both"]


@dataclass(frozen=True, slots=True)
class Latency:
    """Everything arrives later, in order; `jitter` is the largest deviation to either side."""

    ms: float
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """No more than this goes through each direction of each connection."""

    kb_per_second: float


@dataclass(frozen=True, slots=True)
class Slicer:
    """The stream arrives in pieces of at most `size` bytes with a pause after each (a millisecond at least)."""

    size: int
    pause_us: float = 0.0


@dataclass(frozen=True, slots=True)
class LimitData:
    """Exactly this many bytes go through a connection, then it is closed."""

    bytes: int


@dataclass(frozen=True, slots=True)
class ResetPeer:
    """Connections are reset (RST to both sides) this long after they began, or after the toxic was added."""

    after_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Timeout:
    """Nothing goes through, and after `ms` the connection is closed; 0 never closes, and what was sent waits.

    With 0 it is a black hole as TCP knows it: what both sides had sent arrives once the network is back.
    """

    ms: float = 0.0


@dataclass(frozen=True, slots=True)
class SlowClose:
    """The end of a stream is passed on this much later."""

    ms: float


@dataclass(frozen=True, slots=True)
class DropAfter:
    """The connection ends when its stream matches `regex` (within one piece, or across two).

    `forwarded`: the receiver still gets what matched, and its answer reaches nobody. Otherwise it hears nothing of it.
    """

    regex: bytes
    forwarded: bool = False


Toxic: TypeAlias = Latency | Bandwidth | Slicer | LimitData | ResetPeer | Timeout | SlowClose | DropAfter
