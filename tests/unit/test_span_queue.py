"""A collector that is away, slow or wrong costs spans, which are counted, and nothing else."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from prometheus_client import REGISTRY

from assistance.domain.errors import SettingsError
from assistance.settings import span_queue_size
from assistance.tracing.export import SpanQueue


class Collector(SpanExporter):
    """Takes spans, refuses them, breaks or hangs, as the test says."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.result: SpanExportResult | Exception = SpanExportResult.SUCCESS
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.was_asked = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.was_asked.set()
        self.may_go_on.wait(20)
        if isinstance(self.result, Exception):
            raise self.result
        if self.result is SpanExportResult.SUCCESS:
            self.taken += [span.name for span in spans]
        return self.result


class Sender:
    """A provider with a queue of eight in front of a collector."""

    def __init__(self, exporter: SpanExporter) -> None:
        self.queue = SpanQueue(exporter, 8)
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(self.queue)
        self.lost_before = {reason: lost(reason) for reason in ("queue_full", "not_taken")}

    def send(self, *names: str) -> None:
        for name in names:
            self.provider.get_tracer("test").start_span(name).end()

    def lost(self, reason: str) -> float:
        return lost(reason) - self.lost_before[reason]


def lost(reason: str) -> float:
    return REGISTRY.get_sample_value("assistance_spans_lost_total", {"reason": reason}) or 0.0


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")


@pytest.fixture
def collector() -> Collector:
    return Collector()


@pytest.fixture
def sender(collector: Collector) -> Iterator[Sender]:
    sender = Sender(collector)
    yield sender
    collector.may_go_on.set()
    sender.provider.shutdown()


def test_spans_that_wait_when_a_process_ends_are_sent(collector: Collector, sender: Sender) -> None:
    sender.send("a", "b")
    sender.provider.shutdown()
    assert sorted(collector.taken) == ["a", "b"]
    assert (sender.lost("queue_full"), sender.lost("not_taken")) == (0, 0)


def test_while_a_collector_hangs_spans_wait_up_to_the_limit_and_the_rest_is_counted(
    collector: Collector, sender: Sender
) -> None:
    collector.may_go_on.clear()
    sender.send("1", "2", "3", "4")
    assert collector.was_asked.wait(10)
    sender.send(*(f"waits {number}" for number in range(8)), *(f"lost {number}" for number in range(5)))
    assert sender.lost("queue_full") == 5
    collector.may_go_on.set()
    sender.provider.force_flush()
    assert len(collector.taken) == 12
    sender.send("again")
    sender.provider.force_flush()
    assert "again" in collector.taken
    assert sender.lost("queue_full") == 5


@pytest.mark.parametrize("trouble", [SpanExportResult.FAILURE, RuntimeError("broken")])
def test_spans_that_are_not_taken_are_counted_and_those_that_follow_are_sent(
    collector: Collector, sender: Sender, trouble: SpanExportResult | Exception
) -> None:
    collector.result = trouble
    sender.send("a", "b", "c")
    sender.provider.force_flush()
    assert sender.lost("not_taken") == 3
    collector.result = SpanExportResult.SUCCESS
    sender.send("d")
    sender.provider.force_flush()
    assert collector.taken == ["d"]
    assert sender.lost("not_taken") == 3


def test_why_spans_are_not_taken_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        sender = Sender(OTLPSpanExporter(endpoint="http://127.0.0.1:9/v1/traces", timeout=0.2))
        for name in ("a", "b", "c"):
            sender.send(name)
            sender.provider.force_flush()
        sender.provider.shutdown()
    assert sender.lost("not_taken") == 3
    assert len(caplog.records) == 1
    assert "export" in caplog.text


def test_the_size_of_the_queue_is_the_one_of_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_BSP_MAX_QUEUE_SIZE", raising=False)
    assert span_queue_size() == 2048
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "100")
    assert span_queue_size() == 100


@pytest.mark.parametrize("value", ["", "many", "0", "-5", "1e3", "99999999999"])
def test_a_size_that_makes_no_sense_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", value)
    with pytest.raises(
        SettingsError, match=r"^OTEL_BSP_MAX_QUEUE_SIZE is wrong: it is a number from 1 to 1,000,000\.$"
    ):
        span_queue_size()


_WITHOUT_THE_EXTRA = """
import sys
sys.modules["opentelemetry"] = None
from assistance.domain.errors import SettingsError
from assistance.tracing.start import start_traces
try:
    start_traces("assistance-relay", "1", worker="w", queue_size=8)
except SettingsError as error:
    print(error)
"""


def test_without_the_extra_one_sentence_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", _WITHOUT_THE_EXTRA], capture_output=True, text=True, check=True)
    assert done.stdout == "ASSISTANCE_TRACES is otlp, but the extra is missing: pip install 'assistance[otel]'.\n"


def test_a_process_that_records_no_traces_loads_no_library_for_them() -> None:
    loads = "import sys, assistance.bootstrap.parts, assistance.consumer.deliver, assistance.relay.publish;"
    code = loads + "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
