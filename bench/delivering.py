"""How many deliveries one worker process makes each second."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bench.arrivals import arrivals, arrived, forget, wait_until_none
from bench.bench import Bench
from bench.cost import Meter
from bench.load import Amount
from bench.measuring import PER_SECOND, Case, Row, Sample, Target
from bench.peers import CELERY, PROCRASTINATE
from bench.sizes import DELIVERY_THREADS
from bench.stand import Server, Servers, Stand
from bench.ways import OUR_WAY, Way

_CALLS_PER_SECOND = 300
#: Who needs longer than this, of the time that other rows measure for, is stopped.
_TIMES_AS_LONG = 3
#: The share of the deliveries during which a worker that was just started warms up; it is not counted.
_WARM_UP = 0.2


@contextmanager
def row(bench: Bench) -> Iterator[Row]:
    """One worker process with as many threads for everybody."""
    stand = bench.stand
    with stand.servers() as servers:
        sink = servers.sink()
        cases = []
        for way in (OUR_WAY, *bench.peers):
            way.prepare(stand)
            view = way.view(servers, sink.port)
            cases.append(Case(name=way.name, measure=partial(_deliver, stand, servers, way, view, sink, bench.seconds)))
        there = {peer.name for peer in bench.peers}
        yield Row(
            title="Deliveries",
            note=f"One worker process with {DELIVERY_THREADS} threads, a webhook sink that answers at once, and an end "
            "that is written down. The messages (or jobs) wait in their queue when the worker starts; its first "
            f"{_WARM_UP:.0%} do not count, and after {_TIMES_AS_LONG * bench.seconds:g} seconds it is stopped.",
            cases=cases,
            targets=[
                Target(figure=PER_SECOND, limit=2, against=[peer]) for peer in (CELERY, PROCRASTINATE) if peer in there
            ],
        )


def _deliver(stand: Stand, servers: Servers, way: Way, view: Server, sink: Server, seconds: float) -> Sample:
    count, longest = round(_CALLS_PER_SECOND * seconds), _TIMES_AS_LONG * seconds
    stand.clear()
    forget(sink)
    load = way.send(stand, view, Amount(calls=count), sink_port=sink.port)
    if way.relay is not None:
        relay = way.relay(servers, sink.port)
        wait_until_none(lambda: stand.count(way.queued), "rows wait for the relay")
        servers.stop(relay)
    worker = way.worker(servers, sink.port)
    warm = round(count * _WARM_UP)
    wait_until_none(lambda: max(0, warm - arrived(sink)), "webhooks are missing")
    meter, before, ends = Meter(stand, {"worker": worker, "sink": sink}), arrived(sink), time.monotonic() + longest
    while (left := stand.count(way.undelivered)) and time.monotonic() < ends:
        time.sleep(0.1)
    costs = meter.per_thousand(arrived(sink) - before)
    servers.stop(worker)
    moments = sorted(arrivals(sink).values())
    rate = (len(moments) - warm) / (moments[-1] - moments[warm - 1])
    wrong = "" if left or len(moments) == count else f"{count} calls, {len(moments)} webhooks"
    return Sample(figures={PER_SECOND: rate} | costs, void=wrong or way.troubles(stand, load))
