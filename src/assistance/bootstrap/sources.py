"""Signed sources: their secrets, and the API's own understanding of what a request may hold."""

from __future__ import annotations

from typing import Any

from assistance.api.parsing import parse_json
from assistance.api.problems import Problem
from assistance.api.schema import parse_submission
from assistance.configuration import Configuration
from assistance.domain.errors import SettingsError, Unmappable
from assistance.domain.request import Submission
from assistance.intake.submit import Intake
from assistance.settings import Settings
from assistance.sources.mapping import Mapper
from assistance.sources.receive import Sources, Submit
from assistance.sources.replay import LetterReplay
from assistance.sources.source import Source, open_source
from assistance.storage.database import Database


def open_sources(configuration: Configuration) -> dict[str, Source]:
    """Every configured source with its secrets.

    Raises `SettingsError` with a sentence for each secret that is missing or wrong.
    """
    found: dict[str, Source] = {}
    mistakes: list[str] = []
    for name, settings in configuration.sources.items():
        try:
            found[name] = open_source(settings)
        except SettingsError as error:
            mistakes.append(str(error))
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    return found


def sources_of(configuration: Configuration, database: Database, submit: Submit) -> Sources:
    """The signed doors of this installation. Raises `SettingsError`."""
    return Sources(database, open_sources(configuration), mapper_of(configuration), submit)


def mapper_of(configuration: Configuration) -> Mapper:
    """What makes submissions to the configured topics, as strictly as `POST /assistance` does."""
    topics = sorted(configuration.topics)

    def read_json(body: bytes) -> Any:
        try:
            return parse_json(body)
        except Problem as problem:
            raise Unmappable(problem.detail) from problem

    def to_submission(body: Any) -> Submission:
        try:
            return parse_submission(body, topics)
        except Problem as problem:
            raise Unmappable(problem.detail) from problem

    return Mapper(read_json, to_submission)


def letter_replay(settings: Settings, configuration: Configuration, database: Database) -> LetterReplay:
    """What replays the dead letters of sources; the relay's poll finds the new requests."""
    intake = Intake(
        database,
        configuration,
        wake_relay=lambda: None,
        check_after_seconds=settings.check_after_seconds,
        outbox_limit=settings.outbox_limit,
        client_open_requests=settings.client_open_requests,
    )
    return LetterReplay(database, configuration.sources, mapper_of(configuration), intake.submit)
