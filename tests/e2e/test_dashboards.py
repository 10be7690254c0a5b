"""Every expression of the dashboard has an answer in what running processes really show."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from assistance.embedded.ports import free_port
from assistance.storage.migrate import migrate
from tests.e2e.installation import ROOT, Installation, wait_until

DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "assistance.json").read_text(encoding="utf-8"))
PROVISIONING = ROOT / "deploy" / "grafana" / "provisioning"
PROMETHEUS = ROOT / "deploy" / "prometheus"
_SERIES = re.compile(r"^([a-zA-Z_:]+)(?:\{(.*)\})? (\S+)$")
#: What Grafana puts in before it asks; both scrapes of the test lie within the minute.
_VARIABLES = {"$__rate_interval": "1m", "$channel": ".*"}


def panels() -> Iterator[dict[str, Any]]:
    return (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def expressions() -> list[tuple[str, str]]:
    """Each with the title of its panel."""
    return [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]


def as_asked(expression: str) -> str:
    for variable, value in _VARIABLES.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression
    return expression


def scrape(ports: dict[str, int]) -> dict[str, str]:
    """The value of each series, named as Prometheus stores it."""
    values = {}
    for name, port in ports.items():
        job = "assistance-api" if name == "api" else "assistance-workers"
        own = f'instance="{name}",job="{job}"'
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        for line in lines:
            if not line.startswith("#"):
                series = _SERIES.fullmatch(line)
                assert series is not None, line
                labels = ",".join(filter(None, (series[2], own)))
                values[f"{series[1]}{{{labels}}}"] = series[3]
        values[f"up{{{own}}}"] = "1"  # Prometheus says that by itself
    return values


def answers(promtool: Path, folder: Path, first: dict[str, str], second: dict[str, str]) -> str:
    """What promtool says when it asks everything fifteen seconds after the first scrape; nothing when all is there."""
    series = [{"series": name, "values": f"{first.get(name, '_')} {value}"} for name, value in second.items()]
    # What is not a number is no answer either, and compares with nothing.
    asked = [
        {
            "expr": f"count(({as_asked(expression)}) > -Inf) > bool 0",
            "eval_time": "15s",
            "exp_samples": [{"labels": "{}", "value": 1}],
        }
        for _, expression in expressions()
    ]
    tests = {
        "evaluation_interval": "15s",
        "tests": [{"interval": "15s", "input_series": series, "promql_expr_test": asked}],
    }
    (folder / "dashboard.json").write_text(json.dumps(tests), encoding="utf-8")  # which is YAML as well
    done = subprocess.run(
        [promtool, "test", "rules", folder / "dashboard.json"], capture_output=True, text=True, timeout=60
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_no_expression_of_the_dashboard_is_empty_once_something_was_delivered(
    tmp_path: Path, database_url: str, broker_url: str, promtool: Path
) -> None:
    migrate(database_url)
    running = Installation(tmp_path, database_url, broker_url)
    ports = {"api": running.http_port}
    try:
        running.start("sandbox", "api")
        for service in ("relay", "consumer", "conciliation"):
            ports[service] = free_port()
            running.environment["ASSISTANCE_METRICS_PORT"] = str(ports[service])
            running.start(service)

        def deliver(number: int) -> None:
            """By each channel, and one that fails."""
            for topic in ("sales", "pricing", "hook"):
                running.post_until_accepted(topic, f"{topic} {number}")
            wait_until(lambda: len(running.slack_messages()) == number, seconds=30, what="the message in Slack")
            wait_until(lambda: len(running.mails()) == number, seconds=30, what="the mail")

        def counted() -> bool:
            with psycopg.connect(database_url) as connection:
                row = connection.execute("SELECT count(*) FROM attempts WHERE finished_at IS NOT NULL").fetchone()
            return row is not None and row[0] >= 3

        deliver(1)
        wait_until(counted, seconds=30, what="the webhook was tried")
        first = scrape(ports)
        deliver(2)
        wait_until(
            lambda: 'violation="requests without a delivery"' in "".join(scrape(ports)),
            seconds=30,
            what="the ledger was counted",
        )
        assert any(name.startswith('process_cpu_seconds_total{instance="api"') for name in first), "of its processes"
        said = answers(promtool, tmp_path, first, scrape(ports))
        assert said == ""
        # The test would notice: a metric that nobody shows leaves its panel empty.
        without = {name: value for name, value in scrape(ports).items() if not name.startswith("queue_depth")}
        assert "queue_depth" in answers(promtool, tmp_path, first, without)
    finally:
        running.stop()


def test_the_dashboard_shows_the_five_views_and_explains_each_panel() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Rate and latency", "Errors by component", "Circuit breakers", "Queues", "Resources"]
    kinds = {panel["title"]: panel["type"] for panel in panels()}
    assert (kinds["Circuit breaker"], kinds["Queue depth"]) == ("state-timeline", "heatmap")
    shown = {
        target["legendFormat"]
        for panel in panels()
        if panel["title"] == "Time to answer"
        for target in panel["targets"]
    }
    assert shown == {"P50", "P95", "P99"}
    for panel in panels():
        assert panel["description"].endswith("."), panel["title"]
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_no_two_panels_of_the_dashboard_overlap_and_none_leaves_the_screen() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells


def test_prometheus_reads_the_configuration_that_compose_gives_it(promtool: Path, tmp_path: Path) -> None:
    text = (PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8")
    key = "/etc/prometheus/key/metrics"
    assert text.count(key) == 1
    (tmp_path / "metrics").write_text("a key", encoding="utf-8")
    (tmp_path / "prometheus.yml").write_text(text.replace(key, str(tmp_path / "metrics")), encoding="utf-8")
    shutil.copy(PROMETHEUS / "assistance.rules.yml", tmp_path)
    done = subprocess.run(
        [promtool, "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_asks_the_prometheus_that_is_provisioned() -> None:
    source = (PROVISIONING / "datasources" / "prometheus.yml").read_text(encoding="utf-8")
    (uid,) = re.findall(r"^    uid: (\w+)$", source, re.MULTILINE)
    asked = {json.dumps(each["datasource"], sort_keys=True) for each in (*panels(), *DASHBOARD["templating"]["list"])}
    assert asked == {json.dumps({"type": "prometheus", "uid": uid})}
