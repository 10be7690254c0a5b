"""What an installation costs while nobody asks, and how soon it is awake."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from bench.arrivals import forget, took_ms
from bench.bench import Bench
from bench.cost import STATEMENTS
from bench.load import Amount
from bench.measuring import OURS, Case, Row, Sample, Target
from bench.processes import cpu_seconds
from bench.stand import Server, Stand
from bench.ways import OUR_WAY, Installation

#: Of the time that other rows measure for.
_TIMES_AS_LONG = 15
_SETTLING_SECONDS = 3.0
#: What the processes did before the quiet, so that each of them is past its beginning.
_BUSY = Amount(seconds=2, per_second=20)


@contextmanager
def row(bench: Bench) -> Iterator[Row]:
    """API, relay, consumer and conciliation, and nobody who asks."""
    stand, quiet = bench.stand, _TIMES_AS_LONG * bench.seconds
    with stand.servers() as servers:
        sink = servers.sink()
        installation = Installation(stand, servers, OUR_WAY, sink)
        conciliation = servers.ours("conciliation", sink.port)
        conciliation.wait_for("/livez")
        processes = [*installation.processes.values(), conciliation]
        yield Row(
            title="Idle",
            note=f"API, relay, consumer and conciliation; {quiet:g} seconds of quiet after some requests, then one.",
            cases=[Case(name=OURS, measure=partial(_rest, stand, processes, sink, quiet))],
            targets=[
                Target(figure="% of a core", limit=1, is_most=True, unit=" %"),
                Target(figure="statements per second", limit=5, is_most=True),
                Target(figure="first request ms", limit=50, is_most=True, unit=" ms"),
            ],
            most_rounds=1,
        )


def _rest(stand: Stand, processes: Sequence[Server], sink: Server, quiet: float) -> Sample:
    stand.clear()
    _ask(stand, processes[0], sink, _BUSY)
    time.sleep(_SETTLING_SECONDS)
    used = sum(cpu_seconds(server.pid) for server in processes)
    stand.execute("SELECT pg_stat_statements_reset()")
    time.sleep(quiet)
    used = sum(cpu_seconds(server.pid) for server in processes) - used
    statements = stand.count(STATEMENTS)
    return Sample(
        figures={
            "% of a core": used / quiet * 100,
            "statements per second": statements / quiet,
            "first request ms": _ask(stand, processes[0], sink, Amount(calls=1, connections=1)),
        },
        void=stand.ledger_trouble(),
    )


def _ask(stand: Stand, api: Server, sink: Server, amount: Amount) -> float:
    """Milliseconds from a call to its webhook, for the quickest."""
    forget(sink)
    times = stand.folder / "times"
    OUR_WAY.send(stand, api, amount, times=times)
    OUR_WAY.wait_until_delivered(stand)
    return took_ms(sink, times)[0]
