"""The WSGI application: what a WSGI server loads, once in each of its worker processes."""

from __future__ import annotations

from functools import partial

import flask

from assistance.api.app import create_app
from assistance.api.door import Dependency, Door
from assistance.bootstrap.checks import broker_problem, database_problem
from assistance.bootstrap.parts import announce, configuration_of, open_database
from assistance.domain.errors import DatabaseUnavailable, SchemaMismatch
from assistance.intake.submit import Intake
from assistance.outbox.hint import WakeUpSender
from assistance.runtime.clock import Deadline
from assistance.runtime.signals import end_with_parent
from assistance.settings import MEMORY_BROKER, Settings, load_settings
from assistance.status.gauges import database_gauges
from assistance.status.query import find_request
from assistance.storage.database import Database
from assistance.storage.locks import Lock, is_held

_POOL_SIZE = 16


def build_app(settings: Settings) -> flask.Flask:
    """The application for these settings.

    Raises `SettingsError`.
    """
    configuration = configuration_of(settings)
    database = open_database(
        settings, "api", pool_size=_POOL_SIZE, deadline_seconds=settings.request_deadline_seconds * 0.9
    )
    intake = Intake(
        database,
        configuration,
        wake_relay=WakeUpSender(settings.database_url.get_secret_value()).send,
        check_after_seconds=settings.check_after_seconds,
        outbox_limit=settings.outbox_limit,
    )
    door = Door(
        submit=intake.submit,
        find=partial(find_request, database),
        topics=lambda: sorted(configuration.topics),
        ready=partial(_is_ready, settings, database),
        dependencies=(
            Dependency(name="database", check=partial(database_problem, database), essential=True),
            Dependency(name="broker", check=partial(broker_problem, settings), essential=False),
        ),
        collectors=(database_gauges(database, configuration.channels),),
        deadline_seconds=settings.request_deadline_seconds * 0.9,
    )
    return create_app(door, extra_blueprints=_blueprints(settings))


def _blueprints(settings: Settings) -> list[flask.Blueprint]:
    if settings.sandbox_url is None:
        return []
    from assistance.api.sandbox_page import sandbox_blueprint

    return [sandbox_blueprint(settings.sandbox_url)]


def _is_ready(settings: Settings, database: Database) -> bool:
    """The database answers with our schema or a newer one; over the in-memory broker also: its worker consumes."""
    try:
        database.check(Deadline.after(2), newer_is_fine=True)
        if settings.broker_url.get_secret_value() != MEMORY_BROKER:
            return True
        with database.transaction(Deadline.after(2)) as connection:
            return is_held(connection, Lock.CONSUMERS_RUN)
    except (DatabaseUnavailable, SchemaMismatch):
        return False


def __getattr__(name: str) -> flask.Flask:
    """Build `app` when the server asks for it, not when somebody imports this module."""
    if name != "app":
        raise AttributeError(name)
    end_with_parent()
    settings = load_settings()
    announce(settings, "api")
    return build_app(settings)
