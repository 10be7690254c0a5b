"""How long a request is on its way from the bot's call to the people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bench.arrivals import forget, percentile, took_ms
from bench.bench import Bench
from bench.cost import Meter
from bench.load import Amount
from bench.measuring import Case, Row, Sample, Target
from bench.stand import Server, Stand
from bench.ways import OUR_WAY, Installation

_PER_SECOND = 100


@contextmanager
def row(bench: Bench) -> Iterator[Row]:
    """A quiet load, with everybody's processes started."""
    stand = bench.stand
    with stand.servers() as servers:
        sink = servers.sink()
        cases = []
        for way in (OUR_WAY, *bench.peers):
            installation = Installation(stand, servers, way, sink)
            _send(stand, installation, sink, seconds=1)
            measure = partial(_send, stand, installation, sink, seconds=bench.seconds)
            cases.append(Case(name=way.name, measure=measure))
        yield Row(
            title=f"On the way at {_PER_SECOND} requests a second",
            note="From the moment when a call is due until its webhook arrives at the sink. An open loop, with one "
            "relay and one worker process for everybody who has them.",
            cases=cases,
            targets=[
                Target(figure="p50 ms", limit=15, is_most=True, unit=" ms"),
                Target(figure="p99 ms", limit=60, is_most=True, unit=" ms"),
            ],
        )


def _send(stand: Stand, installation: Installation, sink: Server, *, seconds: float) -> Sample:
    stand.clear()
    forget(sink)
    way, times = installation.way, stand.folder / "times"
    meter, amount = Meter(stand, installation.processes), Amount(seconds=seconds, per_second=_PER_SECOND)
    load = way.send(stand, installation.view, amount, sink_port=sink.port, times=times)
    way.wait_until_delivered(stand)
    costs = meter.per_thousand(load.good, generator_seconds=load.cpu_seconds)
    took = took_ms(sink, times)
    return Sample(
        figures={"p50 ms": percentile(took, 0.5), "p99 ms": percentile(took, 0.99), "worst ms": took[-1]} | costs,
        void=f"{load.good} calls, {len(took)} webhooks" if load.good != len(took) else way.troubles(stand, load),
    )
