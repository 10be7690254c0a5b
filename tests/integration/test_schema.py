"""The migrations and the tables in the code say the same."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, text

from assistance.bootstrap.checks import database_problem
from assistance.domain.errors import DatabaseUnavailable, SchemaMismatch
from assistance.storage.database import Database, driver_url
from assistance.storage.migrate import migrate, migrations_folder, newest_revision
from assistance.storage.tables import SCHEMA_REVISION, metadata
from tests.builders import eventually

CATALOGUE = {
    "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version'",
    "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes"
    " WHERE schemaname = 'public' AND tablename <> 'alembic_version'",
    "storage options": "SELECT relname, reloptions FROM pg_class"
    " WHERE relnamespace = 'public'::regnamespace AND reloptions IS NOT NULL",
    "columns": "SELECT table_name, column_name, data_type, is_nullable, column_default, is_identity,"
    " identity_generation FROM information_schema.columns"
    " WHERE table_schema = 'public' AND table_name <> 'alembic_version'",
}


def engine_of(url: str) -> Engine:
    return sqlalchemy.create_engine(driver_url(url), poolclass=sqlalchemy.NullPool)


def catalogue(url: str, name: str) -> list[str]:
    with engine_of(url).connect() as connection:
        return sorted(str(tuple(row)) for row in connection.execute(text(CATALOGUE[name])))


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_migrations_make_exactly_what_the_tables_say(database_url: str, empty_database_url: str, name: str) -> None:
    with engine_of(empty_database_url).begin() as connection:
        metadata.create_all(connection)
    expected = catalogue(empty_database_url, name)
    assert expected
    assert catalogue(database_url, name) == expected


def test_alembic_finds_nothing_that_it_would_migrate(database_url: str) -> None:
    with engine_of(database_url).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_the_program_needs_the_newest_migration() -> None:
    assert newest_revision() == SCHEMA_REVISION


def test_migrating_again_changes_nothing(database_url: str) -> None:
    assert migrate(database_url) == (SCHEMA_REVISION, SCHEMA_REVISION)


def test_processes_that_migrate_at_the_same_time_take_turns(empty_database_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: migrate(empty_database_url), range(4)))
    assert sorted(before or "" for before, _ in answers) == ["", *[SCHEMA_REVISION] * 3]
    assert {after for _, after in answers} == {SCHEMA_REVISION}


def downgrade(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.downgrade(config, revision)
    connection.commit()


def test_a_migration_that_meets_work_which_locks_the_other_way_round_tries_again(database_url: str) -> None:
    with engine_of(database_url).connect() as connection, ThreadPoolExecutor(1) as beside:
        downgrade(connection, "0002")
        connection.execute(text("LOCK TABLE dead_letters IN ROW EXCLUSIVE MODE"))
        migrating = beside.submit(migrate, database_url)
        eventually(lambda: connection.scalar(text("SELECT true FROM pg_locks WHERE NOT granted")))
        connection.execute(text("LOCK TABLE requests IN ROW EXCLUSIVE MODE"))  # which the migration has locked
        connection.commit()
        assert migrating.result() == ("0002", SCHEMA_REVISION)


def test_a_migration_that_always_meets_such_work_says_so_and_changes_nothing(database_url: str) -> None:
    with engine_of(database_url).connect() as connection:
        downgrade(connection, "0002")
        connection.execute(
            text(
                "CREATE FUNCTION deadlock() RETURNS event_trigger LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE SQLSTATE '40P01'; END $$; CREATE EVENT TRIGGER always ON ddl_command_start"
                " WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION deadlock()"
            )
        )
        connection.commit()
        with pytest.raises(DatabaseUnavailable, match=r"locks the same tables, 5 times; nothing was changed"):
            migrate(database_url)
        connection.execute(text("DROP EVENT TRIGGER always; DROP FUNCTION deadlock()"))
        connection.commit()
    assert migrate(database_url) == ("0002", SCHEMA_REVISION)


def test_a_downgrade_leaves_nothing_behind_and_the_way_up_is_open_again(database_url: str) -> None:
    with engine_of(database_url).connect() as connection:
        downgrade(connection, "base")
        left = connection.scalars(
            text("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'")
        ).all()
        assert left == ["alembic_version"]
    assert migrate(database_url) == (None, SCHEMA_REVISION)


def test_a_database_without_the_schema_is_refused_with_what_to_do(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    with pytest.raises(SchemaMismatch, match=r"at nothing yet, this program needs .* run `assistance migrate`\."):
        database.check()
    database.close()


@pytest.mark.parametrize(
    ("revision", "advice"), [("0000", "run `assistance migrate`"), ("9999", "run a newer program")]
)
def test_an_older_or_newer_schema_is_refused(database_url: str, revision: str, advice: str) -> None:
    with engine_of(database_url).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :v"), {"v": revision})
    database = Database(database_url)
    with pytest.raises(SchemaMismatch, match=advice):
        database.check()
    database.close()


def test_migrating_a_newer_schema_is_refused_and_changes_nothing(database_url: str) -> None:
    with engine_of(database_url).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaMismatch, match="run a newer program"):
        migrate(database_url)


def test_migrating_without_a_server_is_told_in_a_sentence() -> None:
    with pytest.raises(DatabaseUnavailable, match="cannot be reached"):
        migrate("postgresql://nobody@127.0.0.1:1/none")


def test_a_process_that_runs_takes_a_newer_schema_and_one_that_starts_does_not(database_url: str) -> None:
    database = Database(database_url)
    try:
        for revision, fine in (("9999", True), ("0000", False)):
            with engine_of(database_url).begin() as connection:
                connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
            with pytest.raises(SchemaMismatch):
                database.check()
            assert (database_problem(database) is None) is fine
    finally:
        database.close()
