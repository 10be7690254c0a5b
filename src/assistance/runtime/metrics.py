"""Every metric of the project, in one place, and the small server that shows them.

The API runs several worker processes; `PROMETHEUS_MULTIPROC_DIR`, which `assistance api` sets for them, makes every
scrape show the sum. Gauges that describe the database are read from it at the scrape (`status.gauges`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.process_collector import ProcessCollector

_LATENCIES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 86400)

http_requests = Counter("http_requests", "Answers of the API.", ["status"])
http_request_seconds = Histogram("http_request_duration_seconds", "From the first header to the answer.")
db_write_seconds = Histogram("db_write_duration_seconds", "One writing transaction, with its retries.")
accept_seconds = Histogram(
    "assistance_accept_duration_seconds",
    "From the first header to the answer of a call that asks for assistance.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 1, 2.5, 5, 10),
)
db_pool_size = Gauge(
    "assistance_db_pool_size", "Database connections that may be used.", ["pool"], multiprocess_mode="livesum"
)
db_pool_in_use = Gauge(
    "assistance_db_pool_in_use", "Database connections checked out.", ["pool"], multiprocess_mode="livesum"
)
authentication_refused = Counter("assistance_authentication_refused", "Calls without a good credential.", ["reason"])
signature_refused = Counter("assistance_signature_refused", "Messages without a right signature.", ["source"])
source_messages = Counter("assistance_source_messages", "Authentic messages of signed sources.", ["source", "status"])
waiting_calls = Gauge(
    "assistance_waiting_calls",
    "Calls of the API that wait for news of a request, or for a bot's server.",
    multiprocess_mode="livesum",
)
active_workers = Gauge(
    "assistance_active_workers", "Consumer threads busy with a delivery.", ["channel"], multiprocess_mode="livesum"
)
channel_workers = Gauge(
    "assistance_channel_workers", "Consumer threads that serve a channel.", ["channel"], multiprocess_mode="livesum"
)
outbox_limit = Gauge("assistance_outbox_limit", "OUTBOX_LIMIT of the settings.", multiprocess_mode="livemax")
outbox_publish = Counter("assistance_outbox_publish", "Outbox rows published.", ["outcome"])
relay_ready = Gauge(
    "assistance_relay_ready", "1 while the relay's broker connection is READY.", multiprocess_mode="livemax"
)
delivery = Counter("assistance_delivery", "Attempts and look-ups that ended.", ["channel", "outcome"])
delivery_end_to_end = Histogram(
    "assistance_delivery_end_to_end_seconds", "From accepted to delivered.", ["channel"], buckets=_LATENCIES
)
delivery_duplicates = Counter("assistance_delivery_duplicates", "Hints with nothing to do.", ["reason"])
delivery_lease_lost = Counter("assistance_delivery_lease_lost", "Results of holders whose lease had been taken.")
conciliation_rounds = Counter("assistance_conciliation_rounds", "Rounds that ended well.")
ledger_violations = Gauge(
    "assistance_ledger_violations",
    "Rows that must not exist, as the conciliation process last counted them.",
    ["violation"],
    multiprocess_mode="livemax",
)
conciliation_repaired = Counter("assistance_conciliation_repaired", "Stragglers re-armed.", ["channel"])
breaker_opened = Counter("assistance_breaker_opened", "Circuit breakers that this process opened.", ["channel"])
dead_letters_recorded = Counter("assistance_dead_letters_recorded", "Messages drained from the DLQ.", ["reason"])
spans_lost = Counter("assistance_spans_lost", "Spans that did not get to the collector.", ["reason"])
log_lines_dropped = Counter("assistance_log_lines_dropped", "Log lines that nobody read in time.")
handler_failures = Counter("assistance_handler_failures", "Messages whose handling raised an unexpected error.")


#: Whether a process still makes progress.
Alive = Callable[[], bool]


class LazyCollector:
    """A collector whose metrics are read at the scrape."""

    def __init__(self, read: Callable[[], Iterable[Metric]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """The metrics as they are now."""
        return self._read()


class _Processes:
    """Processor time and memory of the API's processes together, as every other process shows its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        """Of those that live; what one that is gone has used is forgotten, which a rate takes for a new beginning."""
        cpu = CounterMetricFamily("process_cpu_seconds", "Total user and system CPU time spent in seconds.", value=None)
        memory = GaugeMetricFamily("process_resident_memory_bytes", "Resident memory size in bytes.")
        used: dict[str, float] = {}
        for pid in {file.stem.rpartition("_")[2] for file in self._folder.glob("*.db")}:
            for metric in ProcessCollector(pid=partial(str, pid), registry=None).collect():
                used[metric.name] = used.get(metric.name, 0.0) + metric.samples[0].value
        for metric in (cpu, memory):
            if metric.name in used:
                metric.add_metric([], used[metric.name])
        return [cpu, memory]


def exposition(*extra: LazyCollector) -> tuple[bytes, str]:
    """The text of a scrape and its content type, over all worker processes of the API where there are several."""
    registry = REGISTRY
    if folder := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library leaves it untyped
        registry.register(_Processes(Path(folder)))
    body = generate_latest(registry)
    for collector in extra:
        one = CollectorRegistry(auto_describe=False)
        one.register(collector)
        body += generate_latest(one)
    return body, CONTENT_TYPE_LATEST


def serve_metrics(host: str, port: int, *extra: LazyCollector, alive: Alive) -> ThreadingHTTPServer:
    """Serve `/metrics` and `/livez` from a thread; `/livez` is 503 once `alive` says no. `port` 0 picks a free one."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                body, kind = exposition(*extra)
                self._answer(200, body, kind)
            elif self.path == "/livez":
                healthy = alive()
                body = json.dumps({"status": "ok" if healthy else "stuck"}).encode()
                self._answer(200 if healthy else 503, body, "application/json")
            else:
                self._answer(404, b"", "text/plain")

        def _answer(self, http_status: int, body: bytes, content_type: str) -> None:
            self.send_response(http_status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Scrapes are not worth a log line."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
