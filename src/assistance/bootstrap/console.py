"""What stands behind the console of this installation."""

from __future__ import annotations

from assistance.bootstrap.operating import acts_of
from assistance.clients.authenticate import Authenticator
from assistance.configuration import Configuration
from assistance.console.desk import Desk
from assistance.settings import Settings
from assistance.storage.database import Database


def desk_of(settings: Settings, configuration: Configuration, database: Database, authenticate: Authenticator) -> Desk:
    """The desk of the console in the API process, which knows people as it knows its other callers."""
    return Desk(
        database=database,
        configuration=lambda: configuration,
        acts=acts_of(settings, lambda: configuration, database),
        authenticate=authenticate,
        hide_text=settings.console_hide_text,
        deadline_seconds=settings.request_deadline_seconds * 0.9,
    )
