"""Processes of the version before go on working beside the new ones, on the new schema, until they are stopped."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.installation import ROOT, Installation, wait_until

pytestmark = pytest.mark.timeout(240)

#: The last revision on the schema before this one.
_BEFORE = "14c0bf5"
_REQUESTS = 150
_PER_SECOND = 30


@pytest.fixture
def version_before(tmp_path: Path) -> Path:
    """The source tree of the version before; runs in this environment."""
    git = shutil.which("git")
    if git is None:
        pytest.skip("git is not installed, so that the version before cannot be had")
    tree = tmp_path / "before"
    tree.mkdir()
    archive = subprocess.run([git, "-C", ROOT, "archive", _BEFORE, "src", "migrations", "workers"], capture_output=True)
    if archive.returncode != 0:
        pytest.skip(f"this clone does not hold the revision {_BEFORE}")
    subprocess.run(["tar", "-x", "-C", tree], input=archive.stdout, check=True)
    return tree


#: Only what both versions know: the new keys wait until the old processes are gone.
_FILE = """
[channels.pricing-inbox]
type = "email"
url = "smtp://127.0.0.1:{smtp_port}"
from = "Assistance <assistance@example.com>"
to = ["pricing@example.com"]
retry = "quick"

[retry.quick]
delays = ["100ms", "300ms", "1s"]
give_up_after = "5m"

[topics]
pricing = "pricing-inbox"
"""


class Beside:
    """An installation of the version before, and one of this version on the same servers, file and third parties."""

    def __init__(self, folder: Path, database_url: str, broker_url: str, version_before: Path) -> None:
        for name in ("old", "new"):
            (folder / name).mkdir()
        self.old = Installation(folder / "old", database_url, broker_url)
        self.old.environment["PYTHONPATH"] = str(version_before / "src")
        self.new = Installation(folder / "new", database_url, broker_url)
        file = folder / "both.toml"
        file.write_text(_FILE.format(smtp_port=self.old.smtp_port))
        for one in (self.old, self.new):
            one.environment["ASSISTANCE_CONFIG"] = str(file)
        self.accepted: list[str] = []

    def post_steadily(self) -> None:
        """One request after the other, each at whichever door is open."""
        started = time.monotonic()
        for number in range(_REQUESTS):
            time.sleep(max(0.0, started + number / _PER_SECOND - time.monotonic()))
            self._post_until_accepted(number)

    def _post_until_accepted(self, number: int) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for door in (self.old, self.new):
                status, body = door.post("pricing", f"request {number}", key=f"upgrade-{number}")
                if status == 202:
                    self.accepted.append(str(body["id"]))
                    return
            time.sleep(0.05)
        raise AssertionError(f"nobody accepted request {number}")


@pytest.fixture
def beside(tmp_path: Path, empty_database_url: str, broker_url: str, version_before: Path) -> Iterator[Beside]:
    both = Beside(tmp_path, empty_database_url, broker_url, version_before)
    try:
        yield both
    finally:
        both.old.stop()
        both.new.stop()


def test_an_upgrade_under_load_delivers_everything_once(beside: Beside) -> None:
    old, new = beside.old, beside.new
    assert old.cli("migrate").stdout == "Migrated from nothing to 0001.\n"
    old.start()
    load = threading.Thread(target=beside.post_steadily)
    load.start()
    wait_until(lambda: len(beside.accepted) > 30, seconds=60, what="the old version accepts")

    migrated = new.cli("migrate")
    assert migrated.returncode == 0, migrated.stderr
    later = old.post_until_accepted("pricing", "to the old version, on the new schema")
    wait_until(lambda: old.status_of(later) == "delivered", seconds=60, what="the old version delivers")

    new.start(*Installation.SERVICES)
    for service in Installation.SERVICES:
        assert old.terminate(service) == 0, service
        assert new.get("/readyz")[0] == 200
    load.join(120)
    assert len(set(beside.accepted)) == _REQUESTS

    everything = _REQUESTS + 1
    wait_until(lambda: f" {everything} delivered" in new.ledger(), seconds=90, what="all is delivered")
    assert new.cli("ledger").returncode == 0
    mails = old.mails()
    assert len(mails) == everything
    assert set(mails.values()) == {1}  # a mail cannot be looked up: nothing was ever in doubt


def test_the_version_before_is_really_another_program(version_before: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from assistance.storage import tables; print(tables.SCHEMA_REVISION)"],
        env={"PYTHONPATH": str(version_before / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "0001\n"
