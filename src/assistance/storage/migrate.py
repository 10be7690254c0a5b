"""Brings a database to the schema of this program, one process at a time."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, exc
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random

from assistance.domain.errors import DatabaseUnavailable, SchemaMismatch
from assistance.storage.database import driver_url, schema_revision
from assistance.storage.troubles import TRY_AGAIN_CODES, sqlstate, tls_trouble

#: Any constant does, as long as every version of this program uses the same one.
_LOCK = 7_260_926_417
_TRIES = 5


def migrations_folder() -> Path:
    """Where the migrations are: inside the installed package, or at the top of a checkout."""
    packaged = Path(__file__).parents[1] / "_migrations"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "migrations"


def newest_revision() -> str | None:
    """The revision that the migrations lead to."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def migrate(url: str) -> tuple[str | None, str | None]:
    """Upgrade the database at `url`; returns the revisions before and after.

    Safe to run from several processes at once: they take turns. Raises `DatabaseUnavailable`, and `SchemaMismatch`
    when a newer program has migrated the database further.
    """
    engine = sqlalchemy.create_engine(driver_url(url), connect_args={"connect_timeout": 5})
    try:
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:lock)"), {"lock": _LOCK})
            before = schema_revision(connection)
            connection.commit()
            config = _config()
            if before is not None and before > (newest_revision() or ""):
                raise SchemaMismatch(f"The database's schema is at {before}, which is newer: run a newer program.")
            config.attributes["connection"] = connection
            _undeterred(connection)(command.upgrade, config, "head")
            connection.commit()
            after = schema_revision(connection)
            connection.execute(sqlalchemy.text("SELECT pg_advisory_unlock(:lock)"), {"lock": _LOCK})
            return before, after
    except exc.OperationalError as error:
        if sqlstate(error) in TRY_AGAIN_CODES:
            raise DatabaseUnavailable(
                f"The migration met other work that locks the same tables, {_TRIES} times; nothing was changed by it. "
                "Run it again at a quieter time."
            ) from error
        raise DatabaseUnavailable(f"The database cannot be reached{tls_trouble(error)}.") from error
    finally:
        engine.dispose()


def _undeterred(connection: Connection) -> Retrying:
    """Tries again when it locked tables in another order than those who work meanwhile: nothing of it was done then."""
    return Retrying(
        retry=retry_if_exception(lambda error: sqlstate(error) in TRY_AGAIN_CODES),
        stop=stop_after_attempt(_TRIES),
        wait=wait_random(0.1, 0.5),
        before_sleep=lambda _: connection.rollback(),
        reraise=True,
    )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
