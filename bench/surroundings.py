"""On what it was measured: the machine, and the versions and settings of everything that took part."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

from bench.load import CONNECTIONS, luajit
from bench.sizes import DELIVERY_THREADS, HTTP_THREADS, HTTP_WORKERS, POOL_SIZE
from bench.stand import SERVER_SETTINGS, Stand

_PACKAGES = ("flask", "granian", "sqlalchemy", "psycopg", "pika", "pydantic")
_SYNCS = 200


def surroundings(stand: Stand) -> dict[str, str]:
    """By name, in the order in which they are told."""
    postgres = ", ".join(f"{name} = {value}" for name, value in SERVER_SETTINGS.items())
    return {
        "Processor": f"{os.cpu_count()} × {_processor()}",
        "Memory": _memory(),
        "Disk": f"{_sync_microseconds(stand.folder):,.0f} µs for a write of 8 KiB with fdatasync (median)",
        "System": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "PostgreSQL": f"{stand.postgres.version}; {postgres}; all else as shipped",
        "RabbitMQ": f"{stand.rabbit.version}, one node, quorum queues",
        "Packages": ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
        "HTTP": f"granian with {HTTP_WORKERS} processes of {HTTP_THREADS} threads for everybody, pools of {POOL_SIZE} "
        f"connections; load over {CONNECTIONS} connections from one process ({_luajit()})",
        "Workers": f"one process with {DELIVERY_THREADS} threads for everybody",
    }


def _processor() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _memory() -> str:
    found = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return f"{int(found[1]) / 2**20:.0f} GiB" if found else "unknown"


def _luajit() -> str:
    program, environment = luajit()
    done = subprocess.run([program, "-v"], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split(" --")[0]


def _sync_microseconds(folder: Path) -> float:
    """How long the disk takes to keep a block: the least that a commit can take."""
    took = []
    with (folder / "syncs").open("wb", buffering=0) as file:
        for _ in range(_SYNCS):
            began = time.perf_counter()
            file.write(b"\0" * 8192)
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - began) * 1e6)
    return median(took)
