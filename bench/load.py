"""Load over HTTP, made by load.lua: a generator that takes as little of the machine as can be."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.servers.missing import ServerMissing
from tests.servers.packages import CACHE, unpacked

CONNECTIONS = 64
_SCRIPT = Path(__file__).with_name("load.lua")
_GRACE_SECONDS = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What one run did: answers by HTTP status, seconds, and how long an answer took in milliseconds."""

    answers: Mapping[str, int]
    lost: int
    seconds: float
    p50: float
    p99: float
    worst: float
    cpu_seconds: float

    @property
    def good(self) -> int:
        """Calls that were answered as they should be."""
        return sum(count for status, count in self.answers.items() if status in ("200", "201", "202", "304"))

    @property
    def bad(self) -> int:
        """Calls that were refused, or not answered at all."""
        return sum(self.answers.values()) - self.good + self.lost

    @property
    def per_second(self) -> float:
        """Good answers each second."""
        return self.good / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Amount:
    """How much load: until the seconds are over or the calls are made; `per_second` 0 is as fast as answers come.

    With a rate, a call's time counts from the moment when it was due, whatever the calls before it did.
    """

    seconds: float = 3600
    calls: int = 0
    per_second: float = 0
    connections: int = CONNECTIONS


def post(port: int, path: str, key: str, body: Path, amount: Amount, *, times: Path | None = None) -> Load:
    """Post the body in the file, with the number of the call in place of each `@`, and with a key for each call.

    `times` is where the number and the moment (`time.monotonic`) of each call are written.
    """
    return _run(port, amount, ["post", path, key, str(body), *([str(times)] if times else [])])


def look(port: int, key: str, paths: Path, amount: Amount) -> Load:
    """Get the paths in the file, each first without and then with the ETag that stands beside it."""
    return _run(port, amount, ["look", key, str(paths)])


def _run(port: int, amount: Amount, words: Sequence[str]) -> Load:
    program, environment = luajit()
    limits = [amount.connections, f"{amount.seconds:g}", amount.calls, f"{amount.per_second:g}"]
    done = subprocess.run(
        [str(program), str(_SCRIPT), str(port), *map(str, limits), *words],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=amount.seconds + _GRACE_SECONDS,
    )
    if done.returncode:
        raise AssertionError(f"the load generator failed: {done.stderr.strip()}")
    return Load(**json.loads(done.stdout))


def luajit() -> tuple[Path, dict[str, str]]:
    """LuaJIT and the environment that it needs: the installed one, or the distribution's. Raises `ServerMissing`."""
    installed = shutil.which("luajit")
    if installed is not None:
        return Path(installed), dict(os.environ)
    root = unpacked(CACHE / "luajit", "luajit", title="LuaJIT", needed=r"luajit|libluajit-\S*")
    found = sorted(root.glob("usr/bin/luajit*"))
    if not found:
        raise ServerMissing(f"{root} holds no LuaJIT: remove that folder")
    libraries = ":".join(sorted({str(file.parent) for file in root.rglob("*.so*")}))
    return found[0], {**os.environ, "LD_LIBRARY_PATH": libraries}
