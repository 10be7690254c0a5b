"""A TCP proxy on loopback that does to connections what networks do: delay, cut, slice, silence, reset."""

from tests.proxy.server import Proxy
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

__all__ = [
    "Bandwidth",
    "Direction",
    "DropAfter",
    "Latency",
    "LimitData",
    "Proxy",
    "ResetPeer",
    "Slicer",
    "SlowClose",
    "Timeout",
    "Toxic",
]
