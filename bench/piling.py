"""What open deliveries cost: how fast requests are accepted and relayed above a backlog."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bench.arrivals import wait_until_none
from bench.bench import Bench
from bench.cost import Meter
from bench.load import Amount
from bench.measuring import PER_SECOND, Case, Row, Sample
from bench.payload import CHANNEL
from bench.rows import add_open
from bench.stand import NOBODY, Server, Servers, Stand
from bench.ways import OUR_WAY

_BACKLOGS = (0, 10_000, 1_000_000)
_RELAYED = 20_000


@contextmanager
def row(bench: Bench) -> Iterator[Row]:
    """Accepts with nobody who relays, then a relay."""
    stand = bench.stand
    with stand.servers() as servers:
        api = OUR_WAY.view(servers, NOBODY)
        OUR_WAY.send(stand, api, Amount(seconds=1))
        yield Row(
            title="Open deliveries",
            note="Accepts above a backlog that nobody relays; then how fast a relay publishes some of it.",
            cases=[
                Case(name=f"{count:,} open", measure=partial(_accept, stand, servers, api, count, bench.seconds))
                for count in _BACKLOGS
            ],
            most_rounds=3,
        )


def _accept(stand: Stand, servers: Servers, api: Server, count: int, seconds: float) -> Sample:
    stand.clear()
    if count:
        add_open(stand, count, [CHANNEL], wake=False)
        stand.execute("ANALYZE")
    meter = Meter(stand, {"service": api})
    load = OUR_WAY.send(stand, api, Amount(seconds=seconds))
    figures = {PER_SECOND: load.per_second, "p99 ms": load.p99} | meter.per_thousand(load.good)
    add_open(stand, max(1, 2 * _RELAYED - count), [CHANNEL], wake=False)
    relay = servers.ours("relay")
    figures["relayed per second"] = _relayed_per_second(stand)
    servers.stop(relay)
    return Sample(figures=figures, void=f"{load.bad} calls were refused or lost" if load.bad else "")


def _relayed_per_second(stand: Stand) -> float:
    """How fast messages arrive in the queue, once the relay has begun."""
    wait_until_none(lambda: max(0, _RELAYED // 4 - stand.queued()), "messages are missing")
    begun, before = time.monotonic(), stand.queued()
    wait_until_none(lambda: max(0, before + _RELAYED - stand.queued()), "messages are missing")
    return (stand.queued() - before) / (time.monotonic() - begun)
