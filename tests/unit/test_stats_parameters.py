"""What `GET /stats` is asked for makes sense, or is refused by the name of what does not."""

from __future__ import annotations

from typing import Any

import pytest

from assistance.domain.errors import DatabaseUnavailable
from tests.memory_door import MemoryDoor


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"since": "yesterday"}, "The parameter since has to be a time with its offset"),
        ({"until": "2026-03-04"}, "The parameter until has to be a time"),
        ({"since": "2026-03-04T12:00:00Z", "until": "2026-03-04T11:00:00Z"}, "since has to lie before until"),
        ({"since": "0001-01-01T00:00:00Z"}, "The parameter since lies more than 100 days before until."),
        ({"span": "61"}, "The parameter span has to be one of: 60, 600, 3600, 21600"),
        ({"since": "2026-03-04T00:00:00Z", "until": "2026-03-05T00:00:00Z", "span": "60"}, "span is too short"),
        ({"channel": "No Such"}, "The parameter channel has to be the name of a channel"),
        ({"channel": "sales-taem"}, "The parameter channel names one that does not exist"),
        ({"chanel": "sales-team"}, "Did you mean channel?"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_parameter_that_is_to_blame(query: dict[str, str], said: str) -> None:
    answer = MemoryDoor().app().test_client().get("/stats", query_string=query)
    problem: Any = answer.json
    assert (answer.status_code, problem["code"]) == (400, "invalid-parameter")
    assert said in problem["detail"]


def test_a_channel_that_is_configured_and_quiet_has_nothing_to_tell() -> None:
    answer = MemoryDoor().app().test_client().get("/stats", query_string={"channel": "pager"})
    told: Any = answer.json
    assert (answer.status_code, told["total"]["accepted"], told["series"]) == (200, 0, [])


def test_a_database_that_is_away_is_said_to_be() -> None:
    door = MemoryDoor()
    door.failure = DatabaseUnavailable()
    answer = door.app().test_client().get("/stats")
    problem: Any = answer.json
    assert (answer.status_code, problem["code"], problem["retryable"]) == (503, "storage-unavailable", True)
