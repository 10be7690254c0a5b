"""How many rows of the outbox one relay process publishes, sees confirmed and deletes each second."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial

from bench.arrivals import wait_until_none
from bench.bench import Bench
from bench.cost import Meter
from bench.measuring import OURS, PER_SECOND, Case, Row, Sample, Target
from bench.payload import CHANNEL
from bench.rows import add_open
from bench.stand import ROOT, Server, Stand

_BARE = "bare pika, pipelined"
_ROWS_PER_SECOND = 5_000
#: The end is known to a hundredth of the time that it takes.
_LOOK_SECONDS = 0.01
_ANY_LEFT = "SELECT count(*) FROM (SELECT FROM outbox LIMIT 1) one"


@contextlib.contextmanager
def row(bench: Bench) -> Iterator[Row]:
    """One process of each."""
    stand, count = bench.stand, round(_ROWS_PER_SECOND * bench.seconds)
    with stand.servers() as servers:
        relay = servers.ours("relay")
        relay.wait_for("/livez")
        _relay(stand, relay, 1000)
        yield Row(
            title="Relay",
            note=f"{count:,} due rows, published to a quorum queue (persistent, mandatory, confirmed) and deleted. "
            "Beside it pika alone, with the same messages made beforehand and no database.",
            cases=[
                Case(name=OURS, measure=partial(_relay, stand, relay, count)),
                Case(name=_BARE, measure=partial(_publish, stand, count), is_limit=True),
            ],
            targets=[
                Target(figure=PER_SECOND, limit=20_000),
                Target(figure=PER_SECOND, limit=0.6, against=[_BARE]),
            ],
        )


def _relay(stand: Stand, relay: Server, count: int) -> Sample:
    stand.clear()
    add_open(stand, count, [CHANNEL], wake=False)
    meter, began = Meter(stand, {"service": relay}), time.monotonic()
    stand.execute("NOTIFY assistance_outbox")
    wait_until_none(lambda: stand.count(_ANY_LEFT), "rows wait for the relay", every=_LOOK_SECONDS)
    rate = count / (time.monotonic() - began)
    costs, queued, ledger = meter.per_thousand(count), stand.queued(), stand.ledger_trouble()
    wrong = "" if queued == count else f"{count:,} rows, {queued:,} messages"
    return Sample(figures={PER_SECOND: rate} | costs, void=wrong or ledger)


def _publish(stand: Stand, count: int) -> Sample:
    stand.clear()
    meter = Meter(stand, {})
    done = subprocess.run(
        [sys.executable, "-m", "bench.apps.bare_publisher", str(count)],
        cwd=ROOT,
        env={**os.environ, "BENCH_BROKER_URL": stand.rabbit.url},
        capture_output=True,
        check=True,
        timeout=300,
    )
    found, queued = json.loads(done.stdout), stand.queued()
    figures = {PER_SECOND: count / found["seconds"], "service CPU": found["cpu_seconds"] / count * 1000}
    wrong = "" if queued == count and not found["returned"] else f"{count:,} published, {queued:,} messages"
    return Sample(figures=figures | meter.per_thousand(count), void=wrong)
