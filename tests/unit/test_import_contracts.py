"""`make check` refuses imports drawn against the layers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def house(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    return tmp_path


def lint(house: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=house,
        env={**os.environ, "PYTHONPATH": str(house / "src")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("module", "imported", "contract"),
    [
        ("intake/routing.py", "assistance.relay.publish", "Imports run downwards"),
        ("deliveries/settle.py", "assistance.consumer.deliver", "Imports run downwards"),
        ("relay/publish.py", "pika", "Only the RabbitMQ broker knows pika"),
        ("status/query.py", "flask", "Only the HTTP door and the console know Flask"),
        ("channels/text.py", "assistance.storage.database", "A channel type reaches neither"),
        ("domain/hint.py", "sqlalchemy", "The words of the flow know no library"),
        ("relay/traces.py", "opentelemetry", "Only traces know OpenTelemetry"),
    ],
)
def test_an_import_against_the_layers_is_refused(house: Path, module: str, imported: str, contract: str) -> None:
    path = house / "src" / "assistance" / module
    path.write_text(path.read_text() + f"\nimport {imported}\n")
    done = lint(house)
    assert done.returncode != 0
    broken = [line for line in done.stdout.splitlines() if "BROKEN" in line]
    assert any(line.startswith(contract) for line in broken), done.stdout


def test_the_house_as_it_stands_keeps_its_contracts(house: Path) -> None:
    assert lint(house).returncode == 0
