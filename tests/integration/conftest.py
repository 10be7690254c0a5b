"""Fixtures of the flow over a fresh database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.builders import World


@pytest.fixture
def worlds(database_url: str) -> Iterator[Callable[..., World]]:
    """Makes worlds over the test's database, for a test that needs other topics or settings than `world` has."""
    made: list[World] = []

    def make(*arguments: Any, **settings: Any) -> World:
        made.append(World(database_url, *arguments, **settings))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.fixture
def world(worlds: Callable[..., World]) -> World:
    """Topic `help` goes to channel `people`, topic `both` to `people` and `inbox`."""
    return worlds({"help": ("people",), "both": ("people", "inbox")})
