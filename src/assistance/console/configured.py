"""What the configuration file says of channels and routes: of a secret only where it comes from, never itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from assistance.configuration import ChannelSettings, Configuration
from assistance.console.words import span
from assistance.domain.errors import SettingsError
from assistance.settings import read_secret

_REFERENCE = re.compile(r"(?:env|file):.+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Secret:
    """A reference to a secret at `key` of the channel's table; `problem` says why this process cannot read it."""

    key: str
    reference: str
    problem: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Use:
    """A step of a topic's route that tells a channel. `when` is none for those who are told at once."""

    topic: str
    when: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Described:
    """A configured channel. `destination` is none, and `problem` says why, where it cannot be built here."""

    settings: ChannelSettings
    destination: str | None
    problem: str | None
    secrets: tuple[Secret, ...]
    uses: tuple[Use, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class RouteStep:
    """Who is told of a topic together, and when."""

    when: str | None
    channels: tuple[str, ...]


def described(configuration: Configuration) -> Mapping[str, Described]:
    """Every channel of the file, built as a consumer builds it, with the secrets as they are now."""
    return {name: _describe(settings, configuration) for name, settings in configuration.channels.items()}


def routes(configuration: Configuration) -> dict[str, tuple[RouteStep, ...]]:
    """The steps of each topic, in their order."""
    return {
        topic: tuple(RouteStep(when=_when(number, step.after_seconds), channels=step.to) for number, step in steps)
        for topic, steps in ((t, list(enumerate(r.steps))) for t, r in sorted(configuration.topics.items()))
    }


def _describe(settings: ChannelSettings, configuration: Configuration) -> Described:
    destination, problem = None, None
    try:
        destination = _in_words(settings.build().destination)
    except SettingsError as error:
        problem = str(error)
    return Described(
        settings=settings,
        destination=destination,
        problem=problem,
        secrets=tuple(_secrets(settings.options)),
        uses=tuple(
            Use(topic=topic, when=step.when)
            for topic, steps in routes(configuration).items()
            for step in steps
            if settings.name in step.channels
        ),
    )


def _secrets(options: Mapping[str, Any], path: str = "") -> Iterator[Secret]:
    for key, value in options.items():
        where = f"{path}{key}"
        if isinstance(value, Mapping):
            yield from _secrets(value, f"{where}.")
        elif isinstance(value, str) and _REFERENCE.fullmatch(value):
            yield Secret(key=where, reference=value, problem=_trouble(value))


def _trouble(reference: str) -> str | None:
    try:
        read_secret(reference)
    except ValueError as error:
        return str(error)
    return None


def _in_words(destination: Mapping[str, Any]) -> str:
    """Where messages go, such as `channel C024BE91L`; empty where that itself is a secret."""
    parts = []
    for key, value in destination.items():
        listed = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        parts.append(f"{key} {listed}")
    return "; ".join(parts)


def _when(number: int, after_seconds: float | None) -> str | None:
    if after_seconds is not None:
        return f"after {span(after_seconds)} without a receipt, or when the step before ended dead"
    return "when every other step ended dead" if number else None
