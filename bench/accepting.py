"""How many requests are accepted each second, and how long a bot waits for its answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bench import pgbench
from bench.bench import Bench
from bench.cost import Meter
from bench.load import Amount
from bench.measuring import OURS, PER_SECOND, Case, Row, Sample, Target
from bench.stand import NOBODY, Server, Stand
from bench.ways import OUR_WAY, Door, flask_view

CEILING = Door(name="bare Flask, nothing stored", view=flask_view("bench.apps.ceiling"), stored=None)
ONE_BY_ONE = Door(name="one transaction each, SQLAlchemy", view=flask_view("bench.apps.one_by_one"))
ACCEPTS = "Accepts"


@contextmanager
def highest(bench: Bench) -> Iterator[Row]:
    """As many as the machine takes."""
    stand = bench.stand
    with stand.servers() as servers:
        cases = []
        for door in (OUR_WAY, CEILING, ONE_BY_ONE, *bench.peers):
            door.prepare(stand)
            view = door.view(servers, NOBODY)
            door.send(stand, view, Amount(seconds=1))
            measure = partial(_accept, stand, door, view, bench.seconds)
            cases.append(Case(name=door.name, measure=measure, is_limit=door is CEILING))
        if pgbench.program():
            measure_pgbench = partial(pgbench.measure, stand, bench.seconds)
            cases.append(Case(name="pgbench, the same rows", measure=measure_pgbench, is_limit=True))
        peers = [peer.name for peer in bench.peers]
        targets = [
            Target(figure=PER_SECOND, limit=0.5, against=[CEILING.name]),
            Target(figure=PER_SECOND, limit=3, against=[ONE_BY_ONE.name]),
            Target(figure=PER_SECOND, limit=2, against=peers, against_words="the best peer"),
        ]
        yield Row(
            title=ACCEPTS,
            note="Durable accepts with authentication, validation, idempotency key, metrics and logs on. Each of the "
            "connections sends its next call when it has its answer. No relay and no worker runs.",
            cases=cases,
            targets=targets if peers else targets[:2],
        )


@contextmanager
def at_half(bench: Bench) -> Iterator[Row]:
    """How long an answer takes at half of the highest rate."""
    stand, rate = bench.stand, bench.results[ACCEPTS].median(OURS, PER_SECOND) / 2
    with stand.servers() as servers:
        api = OUR_WAY.view(servers, NOBODY)
        OUR_WAY.send(stand, api, Amount(seconds=1))
        measure = partial(_accept, stand, OUR_WAY, api, bench.seconds, per_second=rate)
        yield Row(
            title="Accepts at half of that rate",
            note=f"An open loop: {rate:,.0f} calls fall due each second, evenly spread, and a call's time counts from "
            "then.",
            cases=[Case(name=OURS, measure=measure)],
            targets=[Target(figure="p99 ms", limit=50, is_most=True, unit=" ms")],
        )


def _accept(stand: Stand, door: Door, view: Server, seconds: float, *, per_second: float = 0) -> Sample:
    stand.clear()
    meter = Meter(stand, {"service": view})
    load = door.send(stand, view, Amount(seconds=seconds, per_second=per_second))
    costs = meter.per_thousand(load.good, generator_seconds=load.cpu_seconds)
    figures = {PER_SECOND: load.per_second, "p50 ms": load.p50, "p99 ms": load.p99}
    return Sample(figures=figures | costs, void=door.troubles(stand, load))
