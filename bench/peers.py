"""Who else could do it: what their users would build with the same Flask view, rows, quorum queue and sink.

All but pgrelay, which is a whole product with a view and tables of its own and is taken as it is shipped.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from assistance.embedded.ports import free_port
from assistance.embedded.postgres import DATABASE
from bench.sizes import DELIVERY_THREADS, POOL_SIZE
from bench.stand import ROOT, Server, Servers, Stand
from bench.ways import Start, Way, flask_view

CELERY, PROCRASTINATE, FASTSTREAM, PGRELAY = "celery", "procrastinate", "faststream-outbox", "pgrelay"
#: pgrelay needs a newer Python than the others, so that it has an environment of its own.
_PYTHON, _PGRELAY = (str(ROOT / place / "bin/python") for place in (".venv-bench", ".venv-bench-pgrelay"))
_PGRELAY_TOKEN, _PGRELAY_BATCH = "bench", 64


def peers(say: Callable[[str], object]) -> list[Way]:
    """Those that are installed, which `make bench` does; it is said who is left out."""
    found = []
    if Path(_PYTHON).exists():
        found += [_celery(), _procrastinate(), _faststream()]
    else:
        say("celery, procrastinate and faststream-outbox are left out: `make bench` installs them.")
    if Path(_PGRELAY).exists():
        found.append(_pgrelay())
    else:
        say("pgrelay is left out: it needs Python 3.12 (`make bench PYTHON312=…`).")
    return found


def version_of(way: Way) -> str:
    """The version of a peer, as installed."""
    script = f"from importlib.metadata import version; print(version({way.name!r}))"
    python = _PGRELAY if way.name == PGRELAY else _PYTHON
    return subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


def _celery() -> Way:
    worker = [
        *("-m", "celery", "--app", "bench.apps.celery_peer:celery", "worker", "--pool", "threads"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "warning"),
    ]
    return Way(
        name=CELERY,
        view=flask_view("bench.apps.celery_peer", _PYTHON),
        worker=_command(CELERY, worker),
        prepare=lambda stand: stand.also_clear(queue="bench.celery"),
        settings="quorum queue, confirmed publishing after the commit (a crash between the two loses the request), "
        "late acks, thread pool, prefetch 16 per thread, no results, no gossip",
    )


def _procrastinate() -> Way:
    module = "bench.apps.procrastinate_peer"
    worker = ["-m", "procrastinate", "--app", f"{module}.jobs", "worker", "--concurrency", str(DELIVERY_THREADS)]
    return Way(
        name=PROCRASTINATE,
        view=flask_view(module, _PYTHON),
        worker=_command(PROCRASTINATE, worker),
        prepare=partial(_make_tables, words=["-m", module], tables=["procrastinate_jobs", "procrastinate_events"]),
        settings="jobs in PostgreSQL, deferred in the request's transaction; no broker; woken by NOTIFY",
    )


def _faststream() -> Way:
    module = "bench.apps.faststream_peer"
    return Way(
        name=FASTSTREAM,
        view=flask_view(module, _PYTHON),
        relay=_command(f"{FASTSTREAM}-relay", ["-m", module, "relay"]),
        queued="SELECT count(*) FROM faststream_outbox",
        worker=_command(FASTSTREAM, ["-m", module, "worker"]),
        prepare=partial(
            _make_tables, words=["-m", module, "tables"], tables=["faststream_outbox"], queue="bench.faststream"
        ),
        settings="outbox row in the request's transaction; relay with 4 workers, batches of 100 fetched and 100 "
        "deleted, to a quorum queue; prefetch 2 per thread",
    )


def _pgrelay() -> Way:
    jobs = "pgrelay.pgrelay_job"

    def body(sink_port: int) -> object:
        call = {"method": "POST", "url": f"http://127.0.0.1:{sink_port}/", "json": {"order": "@"}}
        return {"kind": "http", "name": "bench", "payload": call, "idempotency_key": "bench-@"}

    def api(servers: Servers, sink_port: int) -> Server:
        port = free_port()
        words, settings = [_PGRELAY, "-m", "pgrelay", "api"], _pgrelay_settings(servers, port)
        server = servers.command(words, "pgrelay-api", sink_port, port, settings)
        server.wait_for("/docs")
        return server

    def worker(servers: Servers, sink_port: int) -> Server:
        words, nobody = [_PGRELAY, "-m", "pgrelay", "worker"], 1
        return servers.command(words, "pgrelay-worker", sink_port, more=_pgrelay_settings(servers, nobody))

    return Way(
        name=PGRELAY,
        view=api,
        worker=worker,
        path="/v1/jobs",
        key=_PGRELAY_TOKEN,
        body=body,
        stored=f"SELECT count(*) FROM {jobs}",
        undelivered=f"SELECT count(*) FROM {jobs} WHERE status <> 'succeeded'",
        prepare=_prepare_pgrelay,
        settings="as shipped: its own API (one process, the only one it starts) and rows, jobs in PostgreSQL, no "
        "broker, batches of 64, polls each second",
    )


def _prepare_pgrelay(stand: Stand) -> None:
    if not stand.count("SELECT count(*) FROM pg_roles WHERE rolname = 'pgrelay'"):
        stand.execute(
            "CREATE ROLE pgrelay LOGIN PASSWORD 'pgrelay'",
            "CREATE SCHEMA pgrelay AUTHORIZATION pgrelay",
            "ALTER ROLE pgrelay SET search_path = pgrelay",
        )
        environment = {**stand.environment, **_pgrelay_url(stand)}
        words = [_PGRELAY, "-m", "pgrelay", "migrate", "upgrade"]
        subprocess.run(words, env=environment, cwd=stand.folder, check=True, capture_output=True)
        stand.also_clear("pgrelay.pgrelay_job")


def _pgrelay_url(stand: Stand) -> dict[str, str]:
    address = f"127.0.0.1:{stand.postgres.port}/{DATABASE}"
    return {"PGRELAY_DATABASE_URL": f"postgresql+asyncpg://pgrelay:pgrelay@{address}"}


def _pgrelay_settings(servers: Servers, port: int) -> dict[str, str]:
    return _pgrelay_url(servers.stand) | {
        "PGRELAY_API_HOST": "127.0.0.1",
        "PGRELAY_API_PORT": str(port),
        "PGRELAY_API_AUTH_TOKENS": _PGRELAY_TOKEN,
        "PGRELAY_BLOCK_PRIVATE_NETWORK_TARGETS": "false",
        "PGRELAY_HTTP_ALLOWED_HOSTS": "127.0.0.1",
        "PGRELAY_WORKER_CONCURRENCY": str(DELIVERY_THREADS),
        "PGRELAY_WORKER_BATCH_SIZE": str(_PGRELAY_BATCH),
        "PGRELAY_DB_POOL_SIZE": str(POOL_SIZE),
        "PGRELAY_LOG_LEVEL": "WARNING",
    }


def _command(name: str, words: Sequence[str]) -> Start:
    def start(servers: Servers, sink_port: int) -> Server:
        return servers.command([_PYTHON, *words], name, sink_port)

    return start


def _make_tables(stand: Stand, *, words: Sequence[str], tables: Sequence[str], queue: str = "") -> None:
    if not stand.count(f"SELECT count(*) FROM pg_class WHERE relname = '{tables[0]}'"):
        subprocess.run([_PYTHON, *words], env=stand.environment, cwd=stand.folder, check=True, capture_output=True)
        stand.also_clear(*tables, queue=queue)
