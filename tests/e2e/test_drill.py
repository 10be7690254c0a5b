"""`assistance drill` against a running installation, prepared as docs/operations.md says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from assistance.storage.migrate import migrate
from tests.e2e.installation import ROOT, Installation

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def example() -> str:
    """What the page adds to the file."""
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    blocks: list[str] = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (found,) = [block for block in blocks if "[channels.sandbox]" in block]
    return found


@pytest.fixture
def staging(tmp_path: Path, database_url: str, broker_url: str, example: str) -> Iterator[Installation]:
    migrate(database_url)
    running = Installation(tmp_path, database_url, broker_url)
    file = Path(running.environment["ASSISTANCE_CONFIG"])
    assert "127.0.0.1:1025" in example
    added = example.replace("127.0.0.1:1025", f"127.0.0.1:{running.smtp_port}")
    file.write_text(file.read_text().replace("[topics]\n", added, 1))
    try:
        running.start()
        yield running
    finally:
        running.stop()


def drill(running: Installation, *words: str) -> tuple[int, str, str]:
    done = running.cli("drill", "--url", f"http://127.0.0.1:{running.http_port}", *words)
    return done.returncode, done.stdout, done.stderr


def test_a_drill_on_staging_finds_everything_delivered_once_and_a_broken_one_broken(staging: Installation) -> None:
    code, out, err = drill(staging, "--json")
    report = json.loads(out or err)
    assert (code, report["fine"]) == (0, True), report
    assert (report["accepted"], report["delivered"], report["repeated"], report["same_id"]) == (20, 20, 10, 10)
    assert report["ledger_closes"] is True
    assert 0 < report["slowest_seconds"] < 60
    mails = staging.mails()
    assert set(mails.values()) == {1}
    assert len(mails) == 20
    assert all("This is a drill" in mail and "Nobody has to do anything." in mail for mail in mails)

    code, out, err = drill(staging, "--topic", "sales")
    assert code == 2
    assert "leads to sales-team, which people may read" in err
    assert sum(staging.slack_messages().values()) <= 1  # the one that found it out

    code, out, err = drill(staging, "--topic", "nonsense")
    assert (code, out) == (1, "")
    assert "nonsense" in err

    staging.kill("consumer")
    del staging.environment["ASSISTANCE_DATABASE_URL"]
    code, out, _ = drill(staging, "--requests", "3", "--timeout", "1s")
    assert code == 1
    for words in ("3 of 3", "0 of 3", "not looked at", " is still accepted.", "The drill found something missing."):
        assert words in out


def test_where_nobody_answers_is_one_sentence(tmp_path: Path, database_url: str, broker_url: str) -> None:
    nobody = Installation(tmp_path, database_url, broker_url)
    code, _, err = drill(nobody, "--timeout", "300ms")
    assert code == 1
    assert err.count("\n") == 1
    assert "gives no answer that could be understood" in err
    assert drill(nobody, "--timeout", "soon")[0] == 2
