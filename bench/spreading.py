"""What more of everything gives: API processes, consumer processes, channels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bench.arrivals import arrivals, forget
from bench.bench import Bench
from bench.cost import Meter
from bench.load import Amount
from bench.measuring import PER_SECOND, Case, Row, Sample
from bench.payload import CHANNEL
from bench.rows import add_open
from bench.stand import Server, Stand
from bench.ways import OUR_WAY

_API_PROCESSES = (1, 2, 4, 8)
_CONSUMERS = (1, 2, 4)
_CHANNELS = (2, 20, 200)
_PER_SECOND = 500
#: Deliveries for each queue of each consumer, before it counts.
_WARM_UP = 10


@contextmanager
def api_processes(bench: Bench) -> Iterator[Row]:
    """The same load for more and more processes."""
    stand = bench.stand
    with stand.servers() as servers:
        cases = []
        for count in _API_PROCESSES:
            api = servers.ours("api", ASSISTANCE_HTTP_WORKERS=str(count))
            api.wait_for("/readyz")
            OUR_WAY.send(stand, api, Amount(seconds=1))
            cases.append(Case(name=_processes(count), measure=partial(_accept, stand, api, bench.seconds)))
        yield Row(title="API processes", note="Accepts, as in the row of that name.", cases=cases)


@contextmanager
def consumers(bench: Bench) -> Iterator[Row]:
    """The same queue for more and more consumers."""
    deliver = partial(_deliver, bench.stand, round(_PER_SECOND * bench.seconds))
    yield Row(
        title="Consumer processes",
        note="Deliveries to a sink that answers at once, with one relay; the consumers are started first.",
        cases=[
            Case(name=_processes(count), measure=partial(deliver, consumers=count, channels=1)) for count in _CONSUMERS
        ],
        most_rounds=3,
    )


@contextmanager
def channels(bench: Bench) -> Iterator[Row]:
    """As many deliveries, spread over more and more channels."""
    deliver = partial(_deliver, bench.stand, round(_PER_SECOND * bench.seconds))
    yield Row(
        title="Channels",
        note="Deliveries spread evenly over the channels; one relay and one consumer for all of them.",
        cases=[
            Case(name=f"{count} channels", measure=partial(deliver, consumers=1, channels=count)) for count in _CHANNELS
        ],
        most_rounds=3,
    )


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"


def _accept(stand: Stand, api: Server, seconds: float) -> Sample:
    stand.clear()
    meter = Meter(stand, {"service": api})
    load = OUR_WAY.send(stand, api, Amount(seconds=seconds))
    figures = {PER_SECOND: load.per_second, "p99 ms": load.p99}
    costs = meter.per_thousand(load.good, generator_seconds=load.cpu_seconds)
    return Sample(figures=figures | costs, void=OUR_WAY.troubles(stand, load))


def _deliver(stand: Stand, count: int, *, consumers: int, channels: int) -> Sample:
    names = [CHANNEL, *(f"channel-{number}" for number in range(2, channels + 1))]
    stand.clear()
    with stand.servers(names) as servers:
        sink = servers.sink()
        servers.ours("relay", sink.port).wait_for("/livez")
        workers = {f"consumer {number}": OUR_WAY.worker(servers, sink.port) for number in range(1, consumers + 1)}
        add_open(stand, _WARM_UP * consumers * channels, names)
        OUR_WAY.wait_until_delivered(stand)
        forget(sink)
        meter = Meter(stand, workers)
        add_open(stand, count, names)
        OUR_WAY.wait_until_delivered(stand)
        moments = sorted(arrivals(sink).values())
        costs = meter.per_thousand(count)
    wrong = "" if len(moments) == count else f"{count} deliveries, {len(moments)} webhooks"
    return Sample(
        figures={PER_SECOND: count / (moments[-1] - moments[0])} | costs, void=wrong or stand.ledger_trouble()
    )
