"""What processes use: CPU time and memory, read from the kernel."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tests.servers.postgres import children_of

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of all that came from it, those included that ended."""
    total = 0
    for each in family(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))
    return total / _TICKS


def memory_now(pid: int) -> float:
    """Mebibytes in use by the largest process of a family."""
    return max(_memory(each, "VmRSS:") for each in family(pid))


def memory_peak(pid: int) -> float:
    """The most mebibytes that any process of a family ever used."""
    return max(_memory(each, "VmHWM:") for each in family(pid))


def family(pid: int) -> Iterator[int]:
    """A process and all that came from it."""
    yield pid
    with contextlib.suppress(OSError):
        for child in children_of(pid):
            yield from family(child)


def _memory(pid: int, name: str) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) / 1024
    return 0.0
