"""What probes and scrapers may rely on."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from prometheus_client.core import GaugeMetricFamily

from assistance.api import health
from assistance.api.app import create_app
from assistance.api.door import Dependency
from assistance.domain.errors import DatabaseUnavailable
from assistance.runtime.clock import monotonic
from assistance.runtime.metrics import LazyCollector
from tests.memory_door import MemoryDoor


@pytest.mark.parametrize(
    ("database", "broker", "http_status", "status"),
    [
        (None, None, 200, "ok"),
        (None, "no route", 200, "degraded"),
        ("no answer", None, 503, "down"),
        ("no answer", "no route", 503, "down"),
    ],
)
def test_health_is_503_only_without_the_database(
    database: str | None, broker: str | None, http_status: int, status: str
) -> None:
    door = MemoryDoor()
    door.errors = {"database": database, "broker": broker}
    response = door.app().test_client().get("/health")
    assert response.status_code == http_status
    assert response.get_json() == {
        "status": status,
        "dependencies": {
            "database": {"status": "down" if database else "ok", "detail": database},
            "broker": {"status": "down" if broker else "ok", "detail": broker},
        },
    }


def test_a_check_that_raises_means_down_and_hides_what_it_did_not_expect() -> None:
    def unavailable() -> str | None:
        raise DatabaseUnavailable("The database is away.")

    def broken() -> str | None:
        raise RuntimeError("hunter2")

    flow = MemoryDoor()
    door = replace(
        flow.door(),
        dependencies=[
            Dependency(name="database", check=unavailable, essential=False),
            Dependency(name="broker", check=broken, essential=False),
        ],
    )
    response = create_app(door).test_client().get("/health")
    assert response.status_code == 200
    dependencies = response.get_json()["dependencies"]
    assert dependencies["database"] == {"status": "down", "detail": "The database is away."}
    assert dependencies["broker"]["status"] == "down"
    assert "hunter2" not in response.get_data(as_text=True)


def test_callers_who_ask_how_it_is_cost_one_check_however_many_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    answers, silent = threading.Event(), threading.Event()

    def check() -> str | None:
        asked.append("broker")
        silent.set()
        answers.wait(20)
        return "away" if len(asked) > 1 else None

    dependency = Dependency(name="broker", check=check, essential=False)
    app = create_app(replace(MemoryDoor().door(), dependencies=[dependency]))

    def status() -> str:
        found: str = app.test_client().get("/health").get_json()["status"]
        return found

    with ThreadPoolExecutor(8) as pool:
        first = [pool.submit(status) for _ in range(8)]
        silent.wait(20)
        answers.set()
        assert [each.result() for each in first] == ["ok"] * 8
        assert len(asked) == 1
        monkeypatch.setattr(health, "monotonic", lambda: monotonic() + 60)  # a minute later
        silent.clear()
        answers.clear()
        second = pool.submit(status)
        silent.wait(20)
        assert [status() for _ in range(8)] == ["ok"] * 8, "who comes while somebody asks gets the answer of before"
        answers.set()
        assert second.result() == "degraded"
    assert len(asked) == 2


def test_ready_follows_the_installation_and_alive_does_not() -> None:
    door = MemoryDoor()
    client = door.app().test_client()
    assert (client.get("/readyz").status_code, client.get("/livez").status_code) == (200, 200)
    door.is_ready = False
    door.errors["database"] = "away"
    assert (client.get("/readyz").status_code, client.get("/livez").status_code) == (503, 200)


def test_metrics_show_what_is_counted_here_and_what_the_flow_adds() -> None:
    flow = MemoryDoor()
    pending = LazyCollector(lambda: [GaugeMetricFamily("assistance_outbox_pending", "Rows.", value=7)])
    door = replace(flow.door(), collectors=[pending])
    client = create_app(door).test_client()
    client.get("/livez")
    response = client.get("/metrics")
    text = response.get_data(as_text=True)
    assert response.content_type.startswith("text/plain")
    assert 'http_requests_total{status="200"}' in text
    assert "http_request_duration_seconds_bucket" in text
    assert "assistance_outbox_pending 7.0" in text
