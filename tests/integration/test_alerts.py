"""The alert rules: right for Prometheus, tested one by one, and each with its page for the person on call."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RULES = (FOLDER / "assistance.rules.yml").read_text(encoding="utf-8")
TESTS = (FOLDER / "assistance.rules.test.yml").read_text(encoding="utf-8")
RUNBOOKS = (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8")

_RULE = re.compile(r"^      - alert: (\w+)\n((?:        .*\n)+)", re.MULTILINE)
ALERTS = dict(_RULE.findall(RULES))
SECTIONS = dict(re.findall(r"^## (\w+)\n\n((?:- .*\n)+)", RUNBOOKS, re.MULTILINE))

every_alert = pytest.mark.parametrize("alert", sorted(ALERTS))


def run(promtool: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([promtool, *map(str, words)], capture_output=True, text=True, timeout=60)


def test_prometheus_reads_every_rule(promtool: Path) -> None:
    done = run(promtool, "check", "rules", FOLDER / "assistance.rules.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


def test_each_alert_fires_when_it_should_and_is_silent_when_all_is_well(promtool: Path) -> None:
    done = run(promtool, "test", "rules", FOLDER / "assistance.rules.test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("> 0.8 *", "> 0.9 *"), ("> 0.35", "> 0.6"), ("> 0.01", "> 0.05"), ("> 60", "> 90"), ("max by", "sum by")],
)
def test_the_tests_of_the_rules_notice_another_threshold(
    promtool: Path, tmp_path: Path, right: str, wrong: str
) -> None:
    assert right in RULES
    (tmp_path / "assistance.rules.yml").write_text(RULES.replace(right, wrong), encoding="utf-8")
    shutil.copy(FOLDER / "assistance.rules.test.yml", tmp_path)
    assert run(promtool, "test", "rules", tmp_path / "assistance.rules.test.yml").returncode != 0


@every_alert
def test_every_alert_is_tested_in_both_directions(alert: str) -> None:
    assert re.search(rf"alertname: {alert}, exp_alerts: \[\]", TESTS)
    assert re.search(rf"alertname: {alert}\n +exp_alerts:\n", TESTS)


@every_alert
def test_every_alert_says_how_urgent_it_is_and_leads_to_its_runbook(alert: str) -> None:
    assert re.search(r"labels: \{severity: (page|ticket)\}", ALERTS[alert])
    assert re.search(r"^          summary: \S", ALERTS[alert], re.MULTILINE)
    assert re.search(r"^          description: .*\.\"?$", ALERTS[alert], re.MULTILINE)
    assert f"runbook: docs/runbooks.md#{alert.lower()}\n" in ALERTS[alert]


def test_every_alert_has_its_runbook_and_every_runbook_its_alert() -> None:
    assert SECTIONS.keys() == ALERTS.keys()
    for alert, section in SECTIONS.items():
        points = re.findall(r"^- \*\*(.+?)\*\*: \S", section, re.MULTILINE)
        assert points == ["Means", "Look at", "Do", "Ends by itself"], alert


def test_the_example_for_prometheus_is_right(promtool: Path, tmp_path: Path) -> None:
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", RUNBOOKS, re.MULTILINE | re.DOTALL)
    (tmp_path / "prometheus.yml").write_text(example, encoding="utf-8")
    shutil.copy(FOLDER / "assistance.rules.yml", tmp_path)
    done = run(promtool, "check", "config", tmp_path / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
