"""What a million requests of the past cost those of today."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bench.arrivals import forget, percentile, took_ms
from bench.bench import Bench
from bench.load import Amount
from bench.measuring import OURS, Case, Row, Sample, Target
from bench.payload import CHANNEL
from bench.rows import add_history
from bench.stand import Server, Stand
from bench.ways import OUR_WAY, Installation

REQUESTS = 1_000_000
_PER_SECOND = 100
_PARTS = 3
_SIZE = "SELECT pg_total_relation_size('{}')"
_TABLES = ("requests", "deliveries", "attempts", "events", "idempotency_keys")


@contextmanager
def row(bench: Bench) -> Iterator[Row]:
    """The same load on a fresh database, and on one with a history."""
    stand = bench.stand
    with stand.servers() as servers:
        sink = servers.sink()
        installation = Installation(stand, servers, OUR_WAY, sink)
        yield Row(
            title=f"After {REQUESTS:,} requests",
            note=f"{_PER_SECOND} calls a second, first on a fresh database, then on one with {REQUESTS:,} requests "
            "that were delivered. On the way is from the call to the webhook: relay, claim and send.",
            cases=[Case(name=OURS, measure=partial(_age, stand, installation, sink, bench.seconds))],
            targets=[
                Target(figure="accept p99, times", limit=1.2, is_most=True),
                Target(figure="on the way p99, times", limit=1.2, is_most=True),
                Target(figure="outbox MiB", limit=10, is_most=True, unit=" MiB"),
            ],
            most_rounds=1,
        )


def _age(stand: Stand, installation: Installation, sink: Server, seconds: float) -> Sample:
    stand.clear()
    _load(stand, installation, sink, seconds)  # warms up
    fresh = _load(stand, installation, sink, seconds * _PARTS)
    stand.clear()
    add_history(stand, REQUESTS, CHANNEL)
    sizes = {f"bytes each, {table}": stand.count(_SIZE.format(table)) / REQUESTS for table in _TABLES}
    _load(stand, installation, sink, seconds)
    old = _load(stand, installation, sink, seconds * _PARTS)
    figures = {f"{name} ms fresh": value for name, value in fresh.items()}
    figures |= {f"{name} ms after": value for name, value in old.items()}
    figures |= {f"{name}, times": old[name] / fresh[name] for name in fresh}
    outbox = stand.count(_SIZE.format("outbox")) / 2**20
    return Sample(figures=figures | {"outbox MiB": outbox} | sizes, void=stand.ledger_trouble())


def _load(stand: Stand, installation: Installation, sink: Server, seconds: float) -> dict[str, float]:
    forget(sink)
    times = stand.folder / "times"
    load = OUR_WAY.send(stand, installation.view, Amount(seconds=seconds, per_second=_PER_SECOND), times=times)
    OUR_WAY.wait_until_delivered(stand)
    return {"accept p99": load.p99, "on the way p99": percentile(took_ms(sink, times), 0.99)}
