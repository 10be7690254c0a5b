"""The processes of an installation send their spans to a collector, and together they make one trace."""

from __future__ import annotations

import http.server
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from assistance.embedded.ports import free_port
from assistance.storage.migrate import migrate
from tests.e2e.installation import Installation, wait_until

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


PROCESSES = ("api", "relay", "consumer")


class Seen(NamedTuple):
    """A span as the collector got it."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    links: list[str]


class Collector:
    """Takes spans over OTLP/HTTP; while `hangs` it takes none and answers nobody."""

    def __init__(self) -> None:
        self.spans: list[Seen] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.may_answer.wait(60)
                collector.take(body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [
                    Seen(
                        service=named["service.name"],
                        name=span.name,
                        trace=span.trace_id.hex(),
                        id=span.span_id.hex(),
                        parent=span.parent_span_id.hex(),
                        links=[link.span_id.hex() for link in span.links],
                    )
                    for span in scope.spans
                ]

    def named(self, name: str) -> list[Seen]:
        return [span for span in self.spans if span.name == name]


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.may_answer.set()
    collector.server.shutdown()
    collector.server.server_close()


@contextmanager
def traced(
    folder: Path, database_url: str, broker_url: str, collector: Collector, **of_consumer: str
) -> Iterator[Installation]:
    migrate(database_url)
    running = Installation(folder, database_url, broker_url)
    running.environment |= {
        "ASSISTANCE_TRACES": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "60000",  # what comes, comes because the processes end
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
    }
    running.environment_of["consumer"] = of_consumer
    try:
        running.start("sandbox", *PROCESSES)
        yield running
    finally:
        running.stop()


def ask(running: Installation, header: str) -> str:
    body = json.dumps({"topic": "sales", "description": "across all processes"}).encode()
    call = urllib.request.Request(
        f"http://127.0.0.1:{running.http_port}/assistance",
        body,
        {"Content-Type": "application/json", "traceparent": header},
    )
    with urllib.request.urlopen(call, timeout=10) as answer:
        return str(json.loads(answer.read())["id"])


def test_one_trace_crosses_the_processes_and_the_last_spans_are_sent_before_they_end(
    tmp_path: Path, database_url: str, broker_url: str, collector: Collector
) -> None:
    with traced(tmp_path, database_url, broker_url, collector) as running:
        running.control({"slack": {"fail_next": 1}})
        request = ask(running, f"00-{TRACE}-{SPAN}-01")
        wait_until(lambda: running.status_of(request) == "delivered", seconds=30, what="it is delivered")
        assert end_all(running) == [0, 0, 0]
        logged = {line["event"]: line.get("trace_id") for line in running.log_lines("consumer")}
    assert {span.trace for span in collector.spans} == {TRACE}
    assert {span.service for span in collector.spans} == {"assistance-api", "assistance-relay", "assistance-consumer"}
    (call,) = collector.named("POST /assistance")
    assert call.parent == SPAN
    published = collector.named("publish sales-team")
    assert {span.parent for span in published} == {call.id}
    processed = collector.named("process sales-team")
    assert {span.parent for span in processed} == {span.id for span in published}
    sent = sorted(collector.named("send sales-team"), key=lambda span: len(span.links))
    assert [span.links for span in sent] == [[], [sent[0].id]]
    assert logged["consumer.settled"] == TRACE


def test_a_collector_that_hangs_keeps_neither_a_request_nor_the_end_of_a_process(
    tmp_path: Path, database_url: str, broker_url: str, collector: Collector
) -> None:
    collector.may_answer.clear()
    metrics_port = free_port()
    small = {
        "OTEL_BSP_MAX_QUEUE_SIZE": "2",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "2",
        "ASSISTANCE_METRICS_PORT": str(metrics_port),
    }
    with traced(tmp_path, database_url, broker_url, collector, **small) as running:
        requests = [ask(running, f"00-{TRACE}-{SPAN}-01") for _ in range(5)]
        wait_until(
            lambda: {running.status_of(request) for request in requests} == {"delivered"},
            seconds=30,
            what="all are delivered",
        )
        assert lost(metrics_port)["queue_full"] > 0
        began = time.monotonic()
        assert end_all(running) == [0, 0, 0]
        assert time.monotonic() - began < 15
    assert collector.spans == []


def end_all(running: Installation) -> list[int]:
    """SIGTERM to all at once; their exit codes."""
    with ThreadPoolExecutor(len(PROCESSES)) as pool:
        return list(pool.map(running.terminate, PROCESSES))


def lost(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines: list[Any] = answer.read().decode().splitlines()
    found = [line for line in lines if line.startswith("assistance_spans_lost_total{")]
    return {line.split('"')[1]: float(line.split()[-1]) for line in found}
