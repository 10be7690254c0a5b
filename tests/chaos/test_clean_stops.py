"""A stop is not a fault: it costs neither a message nor a doubt."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.clean_stops import stop_cleanly
from tests.e2e.installation import installation


@pytest.mark.timeout(240)
def test_stopping_processes_under_load_leaves_no_attempt_in_doubt(
    tmp_path: Path, database_url: str, broker_url: str
) -> None:
    with installation(tmp_path, database_url, broker_url) as running:
        report = stop_cleanly(running, database_url, stops=8, seed=1)
    assert report.problems == []
    assert report.accepted > 10
    assert sum(report.stops.values()) == 8
