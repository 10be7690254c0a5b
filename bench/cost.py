"""What requests cost: CPU seconds of everybody who takes part, memory, statements, bytes of write-ahead log."""

from __future__ import annotations

from collections.abc import Mapping

from bench.processes import cpu_seconds, memory_peak
from bench.stand import ROLE, Server, Stand, server_cpu

_LOG_POSITION = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')"
#: BEGIN and COMMIT count as well: each is a round trip.
STATEMENTS = f"""
    SELECT sum(calls) FROM pg_stat_statements
    WHERE userid <> (SELECT oid FROM pg_roles WHERE rolname = '{ROLE}')"""


class Meter:
    """Reads before and after; `parts` are the processes whose CPU time is told apart."""

    def __init__(self, stand: Stand, parts: Mapping[str, Server]) -> None:
        self._stand = stand
        self._parts = parts
        stand.execute("SELECT pg_stat_statements_reset()")
        self._log = stand.count(_LOG_POSITION)
        self._before = self._cpu()

    def per_thousand(self, count: int, *, generator_seconds: float = 0.0) -> dict[str, float]:
        """Figures since the meter was made, for `count` requests."""
        after, thousands = self._cpu(), max(count, 1) / 1000
        figures = {f"{part} CPU": (after[part] - self._before[part]) / thousands for part in after}
        if generator_seconds:
            figures["generator CPU"] = generator_seconds / thousands
        for part, server in self._parts.items():
            figures[f"{part} MiB"] = memory_peak(server.pid)
        statements, log = self._stand.count(STATEMENTS), self._stand.count(_LOG_POSITION) - self._log
        return figures | {"statements each": statements / max(count, 1), "WAL bytes each": log / max(count, 1)}

    def _cpu(self) -> dict[str, float]:
        own = {part: cpu_seconds(server.pid) for part, server in self._parts.items()}
        return own | server_cpu(self._stand)
