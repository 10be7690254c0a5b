"""`assistance routes`: the plan of a topic in words."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from assistance.cli import cli

FILE = """
[channels.team]
type = "webhook"
url = "https://team.test/"
secret = "env:HOOK_SECRET"

[channels.mail]
type = "webhook"
url = "https://mail.test/"
secret = "env:HOOK_SECRET"
timeout = "2s"

[channels.ops]
type = "webhook"
url = "https://ops.test/"
secret = "env:HOOK_SECRET"

[topics]
plain = "team"

[topics.sales]
to = "team"
fallback = [{to = "mail", after = "2m"}]
last_resort = ["ops"]
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    written = tmp_path / "assistance.toml"
    written.write_text(FILE, encoding="utf-8")
    monkeypatch.setenv("ASSISTANCE_CONFIG", str(written))
    monkeypatch.setenv("ASSISTANCE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.setenv("ASSISTANCE_BROKER_URL", "amqp://127.0.0.1:1/")
    monkeypatch.setenv("HOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    return CliRunner()


def test_a_route_is_explained_step_by_step(run: CliRunner) -> None:
    head, *lines = run.invoke(cli, ["routes", "explain", " Sales "]).output.splitlines()
    assert head.startswith("sales (file sha256:")
    assert lines == [
        "  → team, type webhook, time-out 10 s",
        "After 120 s, or as soon as the step before ended dead:",
        "  → mail, type webhook, time-out 2 s",
        "When every step before ended dead:",
        "  → ops, type webhook, time-out 10 s",
    ]


def test_the_check_counts_the_topics_with_a_fallback(run: CliRunner) -> None:
    found = run.invoke(cli, ["routes", "check"])
    assert (found.exit_code, found.output) == (0, "2 topics (1 with a fallback), 3 channels: no mistakes.\n")
