"""Fixtures of the flow over a fresh database."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.builders import World
from tests.terminal import FILE, Terminal


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


@pytest.fixture
def terminal(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Terminal:
    """The command line of an installation with channels `people` and `inbox`, topics `help` and `both`."""
    (tmp_path / "assistance.toml").write_text(FILE, encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["assistance"])
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setenv("HOOK_SECRET", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
    monkeypatch.setenv("ASSISTANCE_DATABASE_URL", database_url)
    monkeypatch.setenv("ASSISTANCE_BROKER_URL", "memory:")
    monkeypatch.setenv("ASSISTANCE_CONFIG", str(tmp_path / "assistance.toml"))
    return Terminal(capsys)
