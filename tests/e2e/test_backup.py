"""A backup of a running installation, restored on another server: unfinished work goes on, what came later is gone."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest

from assistance.embedded.binaries import find_binaries
from assistance.embedded.child import unprivileged
from assistance.settings import environment_with
from tests.e2e.installation import ROOT, Installation, installation, wait_until

pytestmark = pytest.mark.timeout(240)


def on_the_page(program: str) -> str:
    """The one line of docs/operations.md that starts with this program."""
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    (line,) = re.findall(rf"^{program} .*$", page, re.MULTILINE)
    return str(line)


def run_line(line: str, folder: Path, database_url: str) -> None:
    programs = find_binaries(unprivileged())
    assert programs is not None
    if not (programs.folder / line.split()[0]).exists():
        pytest.skip(f"this PostgreSQL comes without {line.split()[0]}")
    environment = environment_with(database_url=database_url) | {"PATH": f"{programs.folder}:{os.environ['PATH']}"}
    done = subprocess.run(line, shell=True, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def count(url: str, query: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(f"SELECT count(*) FROM {query}").fetchone()
    assert row is not None
    return int(row[0])


def post_all(running: Installation, word: str, number: int) -> None:
    for index in range(number):
        assert running.post("sales", f"{word} {index}", key=f"{word}-{index}")[0] == 202


def test_a_restored_installation_finishes_what_the_backup_knows_and_records_what_it_does_not(
    tmp_path: Path, own_postgres: Any, broker_url: str
) -> None:
    live, spare = own_postgres(), own_postgres(migrated=False)
    with installation(tmp_path, live.url, broker_url) as running:
        post_all(running, "before", 10)
        wait_until(lambda: len(running.slack_messages()) == 10, seconds=60, what="the first are sent")
        wait_until(lambda: "10 delivered" in running.ledger(), seconds=60, what="the first are settled")
        running.terminate("consumer")
        post_all(running, "unfinished", 10)
        run_line(on_the_page("pg_dump"), tmp_path, live.url)
        post_all(running, "later", 5)
        wait_until(lambda: count(live.url, "outbox") == 0, seconds=60, what="every hint is in RabbitMQ")
        for service in ("conciliation", "relay", "api"):
            running.terminate(service)
        live.stop()

        run_line(on_the_page("pg_restore"), tmp_path, spare.url)
        running.environment["ASSISTANCE_DATABASE_URL"] = spare.url
        assert running.cli("migrate").returncode == 0
        running.start(*Installation.SERVICES)

        wait_until(lambda: "20 delivered" in running.ledger(), seconds=60, what="the rest is delivered")
        strays = "dead_letters WHERE reason = 'unknown_delivery'"
        wait_until(lambda: count(spare.url, strays) == 5, seconds=60, what="the strangers are recorded")
        assert running.cli("ledger").returncode == 0
        expected = {f"{word} {index}": 1 for word in ("before", "unfinished") for index in range(10)}
        assert running.slack_messages() == expected

        # A bot that repeats what was lost, with its key, is heard.
        post_all(running, "before", 1)
        post_all(running, "later", 1)
        wait_until(lambda: running.slack_messages()["later 0"] == 1, seconds=60, what="the repetition is sent")
        assert running.slack_messages() == expected | {"later 0": 1}
        assert running.terminate("consumer") == 0
        assert count(spare.url, strays) == 5  # acknowledged: they do not come again
