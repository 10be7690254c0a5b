"""What is wrong with the servers that an installation leans on."""

from __future__ import annotations

import structlog

from assistance.bootstrap.callers import check_address, open_issuers
from assistance.bootstrap.parts import configuration_of, open_database
from assistance.bootstrap.sources import open_sources
from assistance.domain.errors import BrokerUnavailable, DatabaseUnavailable, SchemaMismatch
from assistance.settings import MEMORY_BROKER, Settings
from assistance.storage.database import Database

log = structlog.get_logger()


def check_start(settings: Settings) -> None:
    """What the API proves before it listens.

    A right configuration file, the secrets of its sources and issuers, no foreign schema, and that nobody reaches it
    from elsewhere while it asks nobody who he is.
    A database that is away is no reason to stay away: it answers 503 until it returns. Raises `SettingsError` and
    `SchemaMismatch`.
    """
    configuration = configuration_of(settings)
    open_sources(configuration)
    open_issuers(configuration)
    broker_check(settings)
    database = open_database(settings, "api", pool_size=1, deadline_seconds=5)
    try:
        database.check()
        check_address(settings, configuration, database)
    except DatabaseUnavailable as error:
        log.warning("api.starting_without_database", reason=str(error))
    finally:
        database.close()


def broker_check(settings: Settings) -> None:
    """Raises `SettingsError` when the broker's URL is wrong; does not connect."""
    from assistance.broker.rabbitmq.address import parse_url

    url = settings.broker_url.get_secret_value()
    if url != MEMORY_BROKER:
        parse_url(url)


def broker_problem(settings: Settings) -> str | None:
    """What is wrong with the broker, or none."""
    from assistance.broker.rabbitmq.probe import probe

    url = settings.broker_url.get_secret_value()
    if url == MEMORY_BROKER:
        return None  # it lives and dies with the worker, which /readyz knows about
    try:
        probe(url)
    except BrokerUnavailable as error:
        return str(error)
    return None


def database_problem(database: Database) -> str | None:
    """What is wrong with the database of a process that runs, or none."""
    try:
        database.check(newer_is_fine=True)
    except (DatabaseUnavailable, SchemaMismatch) as error:
        return str(error)
    return None
