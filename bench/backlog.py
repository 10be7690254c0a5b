"""How a backlog drains, and what bots notice of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median

from bench.arrivals import arrived, forget
from bench.bench import Bench
from bench.load import Amount, Load
from bench.measuring import OURS, PER_SECOND, Case, Row, Sample, Target
from bench.payload import CHANNEL
from bench.processes import memory_now, memory_peak
from bench.rows import add_open
from bench.stand import Server, Stand
from bench.ways import OUR_WAY, Installation

#: For each second that other rows measure for; and what the targets speak of.
_SHORT_PER_SECOND, _LONG = 5_000, 100_000
_CALLS_PER_SECOND = 50
_PIECE_SECONDS = 4
#: A drain that is slower is given up.
_LEAST_PER_SECOND = 100
#: How far the drain is when memory is read for the first time: what is loaded only then does not grow any more.
_EARLY = 0.2


@contextmanager
def row(bench: Bench) -> Iterator[Row]:
    """A backlog that drains within the time of a short run."""
    with _draining(bench.stand, round(_SHORT_PER_SECOND * bench.seconds)) as made:
        yield made


@contextmanager
def long_row(bench: Bench) -> Iterator[Row]:
    """The backlog that the targets speak of."""
    with _draining(bench.stand, _LONG) as made:
        yield made


@contextmanager
def _draining(stand: Stand, count: int) -> Iterator[Row]:
    """One relay, one consumer and the API under a quiet load, first without and then with a backlog."""
    with stand.servers() as servers:
        sink = servers.sink()
        installation = Installation(stand, servers, OUR_WAY, sink)
        conciliation = servers.ours("conciliation", sink.port)
        conciliation.wait_for("/livez")
        found = installation.processes
        named = {"api": found["view"], "relay": found["relay"], "consumer": found["worker"]}
        named["conciliation"] = conciliation
        limits = {"api": 120, "relay": 80, "consumer": 110}
        yield Row(
            title=f"A backlog of {count:,}",
            note=f"{count:,} deliveries become due at once, while bots make {_CALLS_PER_SECOND} calls a second. "
            "Memory grown is the consumer's and the relay's together, from a fifth of the drain to its end.",
            cases=[Case(name=OURS, measure=partial(_drain, stand, named, sink, count))],
            targets=[
                Target(figure="API p99, times", limit=1.2, is_most=True),
                Target(figure="memory grown, times", limit=1.1, is_most=True),
                *(
                    Target(figure=f"{name} peak MiB", limit=limit, is_most=True, unit=" MiB")
                    for name, limit in limits.items()
                ),
            ],
            most_rounds=1,
        )


def _drain(stand: Stand, named: dict[str, Server], sink: Server, count: int) -> Sample:
    stand.clear()
    forget(sink)
    before = [_ask(stand, named["api"]) for _ in range(3)][1:]  # the first warms up
    OUR_WAY.wait_until_delivered(stand)
    forget(sink)
    add_open(stand, count, [CHANNEL])
    began, drained, meanwhile = time.monotonic(), threading.Event(), list[Load]()

    def ask_on() -> None:
        while not drained.is_set():
            meanwhile.append(_ask(stand, named["api"]))

    asking = threading.Thread(target=ask_on)
    asking.start()
    workers = (named["relay"], named["consumer"])
    early = 0.0
    # All of it is told, and what bots asked meanwhile, but for the last piece.
    while (done := arrived(sink)) < (all_of_it := count + sum(load.good for load in meanwhile)):
        if time.monotonic() - began > count / _LEAST_PER_SECOND:
            break
        if not early and done > count * _EARLY:
            early = sum(memory_now(server.pid) for server in workers)
        time.sleep(0.1)
    took, late = time.monotonic() - began, sum(memory_now(server.pid) for server in workers)
    drained.set()
    asking.join()
    p99s = median(load.p99 for load in before), median(load.p99 for load in meanwhile)
    figures = {
        PER_SECOND: done / took,
        "API p99 ms before": p99s[0],
        "API p99 ms meanwhile": p99s[1],
        "API p99, times": p99s[1] / p99s[0],
        "memory grown, times": late / early if early else 1.0,
    }
    bad = sum(load.bad for load in [*before, *meanwhile])
    wrong = f"{done:,} of {all_of_it:,} were told in {took:.0f} s" if done < all_of_it else ""
    return Sample(
        figures=figures | {f"{name} peak MiB": memory_peak(server.pid) for name, server in named.items()},
        void=wrong or (f"{bad} calls were refused or lost" if bad else stand.ledger_trouble()),
    )


def _ask(stand: Stand, api: Server) -> Load:
    amount = Amount(seconds=_PIECE_SECONDS, per_second=_CALLS_PER_SECOND)
    return OUR_WAY.send(stand, api, amount)
