"""The limit of the database: pgbench writes the same rows, a transaction for each request."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from assistance.embedded.binaries import find_binaries
from assistance.embedded.child import unprivileged
from bench.cost import Meter
from bench.load import CONNECTIONS
from bench.measuring import PER_SECOND, Sample
from bench.payload import CHANNEL
from bench.stand import Stand

_COUNT = re.compile(r"transactions actually processed: (\d+)")
_RATE = re.compile(r"tps = ([\d.]+)")
_SCRIPT = f"""
WITH asked AS (
    INSERT INTO requests (id, ref, client, topic, description, customer_id, customer, metadata)
    VALUES (gen_random_uuid(), gen_random_uuid()::text, 'bench', 'sales', repeat('What does it cost? ', 9), 'cus_42',
        '{{"id": "cus_42", "name": "Ada"}}', '{{"order": "1"}}')
    RETURNING id
), told AS (
    INSERT INTO deliveries (id, request_id, channel, check_at)
    SELECT gen_random_uuid(), id, '{CHANNEL}', now() + interval '5 minutes' FROM asked RETURNING id, request_id
), hinted AS (
    INSERT INTO outbox (delivery_id, series, attempt, request_id, channel)
    SELECT id, 1, 1, request_id, '{CHANNEL}' FROM told
)
INSERT INTO idempotency_keys (client, key, fingerprint, request_id)
SELECT 'bench', gen_random_uuid()::text, '', id FROM asked;
""".strip().replace("\n", " ")


def program() -> str | None:
    """Where pgbench is: beside the PostgreSQL that runs, or installed; none when it is missing."""
    binaries = find_binaries(unprivileged())
    beside = binaries.folder / "pgbench" if binaries else None
    return str(beside) if beside and beside.exists() else shutil.which("pgbench")


def measure(stand: Stand, seconds: float) -> Sample:
    """As many clients as the other cases have connections, two threads, prepared statements."""
    stand.clear()
    script = stand.folder / "pgbench.sql"
    script.write_text(_SCRIPT)
    meter = Meter(stand, {})
    options = ["-n", "-M", "prepared", "-c", str(CONNECTIONS), "-j", "2", "-T", f"{max(2, round(seconds))}"]
    done = subprocess.run(
        [program() or "pgbench", *options, "-f", str(script), stand.postgres.url],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(stand.folder),
    )
    count = int(_found(_COUNT, done.stdout))
    figures = {PER_SECOND: _found(_RATE, done.stdout)}
    stored = stand.count("SELECT count(*) FROM requests")
    return Sample(
        figures=figures | meter.per_thousand(count),
        void="" if stored == count else f"{count:,} transactions, {stored:,} requests stored",
    )


def _found(pattern: re.Pattern[str], text: str) -> float:
    found = pattern.search(text)
    if found is None:
        raise AssertionError(f"pgbench said nothing of {pattern.pattern}")
    return float(found[1])
