"""How often bots may ask where their requests are."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from sqlalchemy import text

from bench.accepting import CEILING
from bench.bench import Bench
from bench.cost import Meter
from bench.load import Amount, look
from bench.measuring import OURS, PER_SECOND, Case, Row, Sample, Target
from bench.stand import NOBODY, Server, Servers, Stand
from bench.ways import OUR_WAY, Installation

_REQUESTS = 500
POLLS = "Polling"


@contextmanager
def highest(bench: Bench) -> Iterator[Row]:
    """As many as the machine takes."""
    stand = bench.stand
    with stand.servers() as servers:
        installation = Installation(stand, servers, OUR_WAY, servers.sink())
        ways = {OURS: installation.view, CEILING.name: CEILING.view(servers, NOBODY)}
        paths = _deliver_and_list(stand, servers, installation)
        for server in ways.values():
            look(server.port, stand.key, paths, Amount(seconds=1))
        yield Row(
            title=POLLS,
            note="`GET /assistance/<id>` of delivered requests, each asked without and then with its ETag: 200 and 304 "
            "in turn.",
            cases=[
                Case(
                    name=name,
                    measure=partial(_poll, stand, server, paths, Amount(seconds=bench.seconds)),
                    is_limit=name == CEILING.name,
                )
                for name, server in ways.items()
            ],
            targets=[Target(figure=PER_SECOND, limit=0.6, against=[CEILING.name])],
        )


@contextmanager
def at_half(bench: Bench) -> Iterator[Row]:
    """How long an answer takes at half of the highest rate."""
    stand, rate = bench.stand, bench.results[POLLS].median(OURS, PER_SECOND) / 2
    with stand.servers() as servers:
        installation = Installation(stand, servers, OUR_WAY, servers.sink())
        paths = _deliver_and_list(stand, servers, installation)
        amount = Amount(seconds=bench.seconds, per_second=rate)
        yield Row(
            title="Polling at half of that rate",
            note=f"An open loop of {rate:,.0f} calls each second.",
            cases=[Case(name=OURS, measure=partial(_poll, stand, installation.view, paths, amount))],
            targets=[Target(figure="p99 ms", limit=30, is_most=True, unit=" ms")],
        )


def _deliver_and_list(stand: Stand, servers: Servers, installation: Installation) -> Path:
    """Ask, let everything be delivered, and write each path with its ETag into a file."""
    stand.clear()
    OUR_WAY.send(stand, installation.view, Amount(calls=_REQUESTS))
    OUR_WAY.wait_until_delivered(stand)
    for worker in (installation.processes["relay"], installation.processes["worker"]):
        servers.stop(worker)
    with stand.database.transaction() as connection:
        names = connection.scalars(text("SELECT id FROM requests")).all()
    paths = stand.folder / "paths"
    paths.write_text("".join(f"/assistance/{name} {_etag(stand, installation.view, str(name))}\n" for name in names))
    return paths


def _etag(stand: Stand, api: Server, name: str) -> str:
    call = urllib.request.Request(
        f"http://127.0.0.1:{api.port}/assistance/{name}", headers={"Authorization": f"Bearer {stand.key}"}
    )
    with urllib.request.urlopen(call, timeout=10) as answer:
        return str(answer.headers["ETag"])


def _poll(stand: Stand, server: Server, paths: Path, amount: Amount) -> Sample:
    meter = Meter(stand, {"service": server})
    load = look(server.port, stand.key, paths, amount)
    figures = {PER_SECOND: load.per_second, "p50 ms": load.p50, "p99 ms": load.p99}
    apart = abs(load.answers.get("200", 0) - load.answers.get("304", 0))
    void = f"{dict(load.answers)}, {load.lost} lost" if load.bad or apart > 1 else ""
    return Sample(figures=figures | meter.per_thousand(load.good, generator_seconds=load.cpu_seconds), void=void)
