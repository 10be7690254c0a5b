"""What operators do, with the way back for messages of signed sources."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from assistance.bootstrap.parts import Parts
from assistance.bootstrap.sources import letter_replay
from assistance.configuration import Configuration
from assistance.operating.acts import Acts, SourceReplay
from assistance.operating.carry_out import Jobs
from assistance.runtime.loop import run_passes
from assistance.settings import Settings
from assistance.storage.database import Database

#: How late an operation may begin, and how long a batch of it lasts at its pace.
_JOBS_SECONDS = 1.0


def acts_of(settings: Settings, configuration: Callable[[], Configuration], database: Database) -> Acts:
    """What operators do to this installation. The configuration is read when an act needs it."""
    return Acts(
        database,
        configuration,
        check_after_seconds=settings.check_after_seconds,
        replay_of_source=replay_of_source(settings, configuration, database),
    )


def jobs_of(settings: Settings, configuration: Callable[[], Configuration], database: Database) -> Jobs:
    """What carries out the operations of this installation."""
    return Jobs(
        database,
        configuration,
        check_after_seconds=settings.check_after_seconds,
        replay_of_source=replay_of_source(settings, configuration, database),
    )


def jobs_loop(parts: Parts) -> None:
    """Carry out what operators ordered until asked to stop."""
    jobs = jobs_of(parts.settings, lambda: parts.configuration, parts.database)
    run_passes("operations", jobs.one_pass, lambda: parts.stop.wait(_JOBS_SECONDS), parts.stop)


def replay_of_source(
    settings: Settings, configuration: Callable[[], Configuration], database: Database
) -> SourceReplay:
    """What makes a kept message of a signed source a request."""

    def replay(letter_id: int, actor: str, also: Callable[[Connection], None]) -> None:
        letter_replay(settings, configuration(), database).replay(letter_id, actor=actor, also=also)

    return replay
