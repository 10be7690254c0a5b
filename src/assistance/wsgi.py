"""The WSGI application: what a WSGI server loads, once in each of its worker processes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit

import flask

from assistance.api.app import create_app
from assistance.api.door import Customers, Dependency, Door, Reading
from assistance.api.waiting import WaitingRoom
from assistance.bootstrap.callers import authenticator_of
from assistance.bootstrap.checks import broker_problem, database_problem
from assistance.bootstrap.console import desk_of
from assistance.bootstrap.parts import announce, configuration_of, open_database
from assistance.bootstrap.sources import sources_of
from assistance.console.blueprint import console_blueprint
from assistance.domain.errors import DatabaseUnavailable, SchemaMismatch
from assistance.history.reading import stats
from assistance.intake.acts import Acts
from assistance.intake.submit import Intake
from assistance.intake.webhooks import Webhooks
from assistance.limits.budgets import Budgets
from assistance.limits.callers import CallLimit
from assistance.limits.strangers import StrangerLimit
from assistance.operating.deeds import record_cancel
from assistance.outbox.hint import WakeUpSender
from assistance.privacy.erase import erase
from assistance.privacy.export import export
from assistance.runtime.addresses import is_loopback
from assistance.runtime.clock import Deadline
from assistance.runtime.signals import begin_as_a_worker, when_asked_to_stop
from assistance.settings import MEMORY_BROKER, Settings, load_settings
from assistance.status.finding import Finder
from assistance.status.gauges import database_gauges
from assistance.status.pages import page_of
from assistance.status.timeline import timeline_of
from assistance.status.watching import Watcher, glances_at
from assistance.storage.database import Database
from assistance.storage.locks import Lock, is_held

#: Connections for the calls of bots, and for what looks through many rows: it never takes one from them.
_POOL_SIZE, _READING_POOL_SIZE = 16, 4


def build_app(settings: Settings, *, at_stop: Callable[[Callable[[], None]], None] | None = None) -> flask.Flask:
    """The application for these settings; `at_stop` is told what to do when the process is asked to stop.

    Raises `SettingsError`.
    """
    configuration = configuration_of(settings)
    deadline_seconds = settings.request_deadline_seconds * 0.9
    database = open_database(settings, "api", pool_size=_POOL_SIZE, deadline_seconds=deadline_seconds, looks_up=True)
    reading = open_database(settings, "api-reading", pool_size=_READING_POOL_SIZE, deadline_seconds=deadline_seconds)
    wake_relay = WakeUpSender(settings.database_url.get_secret_value()).send
    intake = Intake(
        database,
        configuration,
        wake_relay=wake_relay,
        check_after_seconds=settings.check_after_seconds,
        outbox_limit=settings.outbox_limit,
        client_open_requests=settings.client_open_requests,
    )
    watcher = Watcher(partial(glances_at, database))
    if at_stop is not None:
        # A call that waits a minute for news must not hold the process up.
        at_stop(watcher.stop)
    authenticate = authenticator_of(settings, configuration, database)
    topics = sorted(configuration.topics)
    door = Door(
        submit=intake.submit,
        find=Finder(database),
        acts=Acts(
            database,
            wake_relay=wake_relay,
            check_after_seconds=settings.check_after_seconds,
            record_cancel=record_cancel,
        ),
        topics=lambda: topics,
        ready=partial(_is_ready, settings, database),
        dependencies=(
            Dependency(name="database", check=partial(database_problem, database), essential=True),
            Dependency(name="broker", check=partial(broker_problem, settings), essential=False),
        ),
        collectors=(database_gauges(reading, configuration.channels),),
        deadline_seconds=deadline_seconds,
        authenticate=authenticate,
        sandbox_is_elsewhere=_sandbox_is_elsewhere(settings),
        sources=sources_of(configuration, database, intake.submit),
        webhooks=Webhooks(database, configuration),
        reading=Reading(
            page=partial(page_of, reading),
            timeline=partial(timeline_of, database),
            plan=intake.plan,
            stats=partial(stats, database),
            routes=lambda: configuration.topics,
        ),
        # Half of the threads may wait, so that the other half always answers.
        waiting=WaitingRoom(watcher, settings.http_threads // 2),
        customers=Customers(
            export=partial(export, reading, batch_seconds=deadline_seconds),
            erase=partial(erase, reading, check_after=settings.check_after_seconds),
        ),
        admit=CallLimit(Budgets(database, settings.client_rate_per_minute).take, settings.client_rate_per_minute).admit,
        stranger_wait=StrangerLimit().wait_seconds,
    )
    desk = desk_of(settings, configuration, reading, authenticate)
    return create_app(door, extra_blueprints=[console_blueprint(desk), *_sandbox(settings)])


def _sandbox(settings: Settings) -> list[flask.Blueprint]:
    if settings.sandbox_url is None:
        return []
    from assistance.api.sandbox_page import sandbox_blueprint

    return [sandbox_blueprint(settings.sandbox_url)]


def _sandbox_is_elsewhere(settings: Settings) -> bool:
    """Whether the sandbox runs on another machine: then it is no secret of this one."""
    return not is_loopback(urlsplit(settings.sandbox_url or "").hostname or "localhost")


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
    begin_as_a_worker()
    settings = load_settings()
    announce(settings, "api")
    return build_app(settings, at_stop=when_asked_to_stop)
