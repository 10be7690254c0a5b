"""Short runs over clusters: one leader, one primary; with `-m long`. Longer ones: `python -m tests.chaos.clusters`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import clusters
from tests.servers import ServerMissing

pytestmark = [pytest.mark.timeout(300), pytest.mark.long]


def test_a_killed_leader_of_the_queues_costs_no_request_and_doubles_none(tmp_path: Path) -> None:
    try:
        result = clusters.rabbitmq(tmp_path, 1, without_majority=0)
    except ServerMissing as missing:
        pytest.skip(f"no server: {missing}")
    assert result.good, result
    assert set(result.answers) == {202}


def test_a_promoted_synchronous_standby_has_every_request_that_was_accepted(tmp_path: Path) -> None:
    try:
        result = clusters.postgres(tmp_path, 1)
    except ServerMissing as missing:
        pytest.skip(f"no server: {missing}")
    assert result.good, result
