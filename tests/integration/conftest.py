"""Fixtures of the flow over a fresh database."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from assistance import wsgi
from assistance.broker.contract import ConnectionState
from assistance.broker.memory import MemoryBroker
from assistance.broker.rabbitmq.publisher import RabbitPublisher
from assistance.broker.rabbitmq.subscriber import RabbitSubscriber
from tests.builders import World, eventually
from tests.integration.consumers import Consumers, Install
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


@pytest.fixture(params=["memory", "rabbitmq"])
def install(request: pytest.FixtureRequest) -> Iterator[Install]:
    made: list[Consumers] = []

    def make(world: World) -> Consumers:
        channels = world.configuration.channels
        if request.param == "memory":
            broker = MemoryBroker(channels)
            made.append(Consumers(world, broker.publisher(), broker.subscriber))
        else:
            url = request.getfixturevalue("broker_url")
            publisher = RabbitPublisher(url, channels)
            eventually(lambda: publisher.state is ConnectionState.READY)
            made.append(Consumers(world, publisher, lambda: RabbitSubscriber(url, channels)))
        return made[-1]

    yield make
    for each in made:
        each.stop()


@pytest.fixture
def closing_apps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Closes what `build_app` opened, which in production the end of the process does."""
    opened: list[Any] = []

    def remembered(make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*arguments: Any, **settings: Any) -> Any:
            opened.append(make(*arguments, **settings))
            return opened[-1]

        return made

    for name in ("open_database", "WakeUpSender"):
        monkeypatch.setattr(wsgi, name, remembered(getattr(wsgi, name)))
    yield
    for each in opened:
        each.close()


@pytest.fixture
def terminal(
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    closing_apps: None,
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
