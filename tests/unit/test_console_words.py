"""Numbers and instants in the words of the console."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from assistance.console.words import absolute, ago, iso, number, span
from assistance.domain.caller import Caller, Scope
from assistance.domain.operator import Role, role_of

NOW = datetime(2026, 3, 4, 14, 3, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "\N{EN DASH}"),
        (-3, "0 s"),
        (0, "0 s"),
        (0.3, "under 1 s"),
        (1, "1 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (257, "4 min 17 s"),
        (3600, "1 h"),
        (3605, "1 h"),
        (7260, "2 h 1 min"),
        (86_400 * 3 + 7_200 + 61, "3 d 2 h"),
    ],
)
def test_a_length_of_time_is_told_in_its_largest_units(seconds: float | None, words: str) -> None:
    assert span(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "just now"), (0.9, "just now"), (12, "12 s ago"), (61, "1 min ago"), (90_000, "1 d ago"), (-30, "in 30 s")],
)
def test_an_instant_is_told_from_where_we_stand(seconds: float, words: str) -> None:
    assert ago(NOW - timedelta(seconds=seconds), NOW) == words


def test_instants_and_numbers_are_written_in_one_way() -> None:
    there = NOW.astimezone(tz=None)
    assert absolute(there) == "2026-03-04 14:03:07 UTC"
    assert iso(there) == "2026-03-04T14:03:07.000Z"
    assert [number(value) for value in (0, 1284, 10_000.0, 2.5, 0.25, 12.999)] == [
        "0",
        "1,284",
        "10,000",
        "2.5",
        "0.25",
        "13",
    ]


def test_each_scope_holds_those_below_it_and_gives_a_role() -> None:
    def having(*scopes: Scope) -> Caller:
        return Caller(client="ada", scopes=frozenset(scopes))

    assert [role_of(having(scope)) for scope in Scope] == [None, None, Role.VIEWER, Role.OPERATOR, Role.ADMIN]
    assert having(Scope.VIEW).sees is having(Scope.OPERATE).sees is having(Scope.ADMIN).sees is None
    assert having(Scope.VIEW).may(Scope.READ)
    assert not having(Scope.VIEW).may(Scope.SUBMIT)
    assert not having(Scope.OPERATE).may(Scope.ADMIN)
    assert all(having(Scope.ADMIN).may(scope) for scope in Scope)
    assert [[one.holds(other) for other in Role] for one in Role] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]
