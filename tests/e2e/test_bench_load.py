"""The load generator and the judgement of `make bench`: no figure comes from calls that were cut or forgotten."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert

from assistance.embedded.ports import free_port
from assistance.storage.database import Database
from assistance.storage.tables import requests
from bench.arrivals import arrivals, percentile, took_ms
from bench.load import Amount, Load, luajit, post
from bench.stand import ROOT, Server, Stand
from bench.ways import OUR_WAY
from tests.servers import ServerMissing


@pytest.fixture
def sink() -> Iterator[Server]:
    try:
        luajit()
    except ServerMissing as missing:
        pytest.skip(f"no server: {missing}")
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.sink", str(port)], cwd=ROOT)
    server = Server(process=process, port=port)
    server.wait_for("/count")
    yield server
    process.kill()
    process.wait()


@pytest.fixture
def body(tmp_path: Path) -> Path:
    (tmp_path / "body").write_text('{"order": "@"}')
    return tmp_path / "body"


def test_every_call_is_answered_and_arrives_before_the_generator_ends(sink: Server, body: Path) -> None:
    load = post(sink.port, "/", "key", body, Amount(calls=500, connections=16))
    assert (load.good, load.bad) == (500, 0)
    assert sorted(arrivals(sink)) == list(range(1, 501))


def test_a_call_counts_its_waiting_from_the_moment_it_was_due(sink: Server, body: Path, tmp_path: Path) -> None:
    def stall() -> None:
        time.sleep(0.3)
        os.kill(sink.pid, signal.SIGSTOP)
        time.sleep(0.4)
        os.kill(sink.pid, signal.SIGCONT)

    stalling = threading.Thread(target=stall)
    stalling.start()
    amount = Amount(seconds=1, per_second=200, connections=4)
    load = post(sink.port, "/", "key", body, amount, times=tmp_path / "times")
    stalling.join()
    # A generator that waits with its 4 connections would have made far fewer calls, and only 4 slow ones.
    assert load.good == 200
    took = took_ms(sink, tmp_path / "times")
    assert sum(ms > 100 for ms in took) >= 40
    assert load.p99 > 200
    assert percentile(took, 0.99) > 200


def test_a_run_is_void_when_other_calls_are_stored_than_were_accepted_or_the_ledger_is_open(
    database_url: str, tmp_path: Path
) -> None:
    try:
        stand = Stand(tmp_path)
    except ServerMissing as missing:
        pytest.skip(f"no server: {missing}")
    stand.database = Database(database_url, pool_size=1)
    try:
        assert OUR_WAY.troubles(stand, _load(0)) == ""
        assert OUR_WAY.troubles(stand, _load(1)) == "1 calls were accepted, 0 are stored"
        with stand.database.transaction() as connection:
            values = {"id": uuid.uuid4(), "ref": "A-1", "topic": "sales", "description": "?"}
            connection.execute(insert(requests).values(values))
        assert "the ledger does not close: 1 requests without a delivery" in OUR_WAY.troubles(stand, _load(1))
    finally:
        stand.database.close()


def _load(good: int) -> Load:
    return Load(answers={"202": good}, lost=0, seconds=1, p50=1, p99=1, worst=1, cpu_seconds=1)
