"""What the alerts look at is what running processes show."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

import psycopg

from assistance.embedded.ports import free_port
from assistance.storage.migrate import migrate
from tests.e2e.installation import ROOT, Installation, wait_until

RULES = (ROOT / "deploy" / "prometheus" / "assistance.rules.yml").read_text(encoding="utf-8")
USED = set(re.findall(r"\b(?:assistance|http|db|queue|circuit)_[a-z_]+", "\n".join(re.findall(r"expr: .*", RULES))))


def scrape(ports: list[int]) -> str:
    pages = []
    for port in ports:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            pages.append(answer.read().decode())
    return "".join(pages)


def test_every_metric_of_an_alert_is_there_with_a_value(tmp_path: Path, database_url: str, broker_url: str) -> None:
    migrate(database_url)
    running = Installation(tmp_path, database_url, broker_url)
    ports = [running.http_port]
    try:
        running.start("sandbox", "api")
        running.post_until_accepted("sales", "lost and repaired")
        running.post_until_accepted("pricing", "for a channel that left")
        with psycopg.connect(database_url) as connection:
            connection.execute("DELETE FROM outbox")
            connection.execute("UPDATE deliveries SET check_at = now() WHERE channel = 'sales-team'")
            connection.execute("UPDATE deliveries SET channel = 'gone' WHERE channel = 'pricing-inbox'")
        for service in ("relay", "consumer", "conciliation"):
            ports.append(free_port())
            running.environment["ASSISTANCE_METRICS_PORT"] = str(ports[-1])
            running.start(service)
        wait_until(lambda: running.slack_messages(), seconds=30, what="the straggler is sent")

        def missing() -> set[str]:
            return USED - set(re.findall(r"^([a-z_]+)(?:\{.*\})? [0-9.e+]+$", scrape(ports), re.MULTILINE))

        wait_until(lambda: not missing(), seconds=20, what=f"a value of {missing()}")
        shown = scrape(ports)
        for line in (
            'assistance_channel_workers{channel="sales-team"} 8.0',
            "assistance_outbox_limit 1e+06",
            'assistance_conciliation_repaired_total{channel="sales-team"} 1.0',
            'assistance_orphaned_deliveries{channel="gone"} 1.0',
            'assistance_ledger_violations{violation="requests without a delivery"} 0.0',
            "assistance_relay_ready 1.0",
            'assistance_db_pool_size{pool="assistance-api"} 16.0',
            "assistance_accept_duration_seconds_count 2.0",
        ):
            assert line in shown.splitlines(), line
    finally:
        running.stop()
