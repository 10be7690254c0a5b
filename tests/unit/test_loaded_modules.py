"""What a process loads: its own stage, and nothing that costs memory and time for others."""

from __future__ import annotations

import subprocess
import sys

import pytest

_BEGUN = "from assistance.cli.processes import _beginning\nwith _beginning():\n    import {stage}\n"


@pytest.mark.parametrize(
    ("program", "needed", "others"),
    [
        ("import assistance.cli", "click", {"sqlalchemy", "structlog", "pydantic", "flask", "rich"}),
        (_BEGUN.format(stage="assistance.bootstrap.relaying"), "sqlalchemy", {"flask", "slack_sdk", "rich"}),
        (_BEGUN.format(stage="assistance.bootstrap.consuming"), "sqlalchemy", {"flask", "rich"}),
        (_BEGUN.format(stage="assistance.cli.http_server"), "flask", {"pika", "slack_sdk", "rich"}),
    ],
    ids=["--help", "relay", "consumer", "api"],
)
def test_a_process_loads_nothing_of_others(program: str, needed: str, others: set[str]) -> None:
    listing = f"{program}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    found = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(found.stdout.split())
    assert needed in loaded
    assert loaded & others == set()


def test_who_prints_tables_still_can() -> None:
    program = _BEGUN.format(stage="structlog") + "from rich.table import Table\nprint(Table.__name__)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout == "Table\n"
