"""A primary and a standby behind one URL: writes find the one that takes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from sqlalchemy import text

from assistance.domain.errors import DatabaseUnavailable
from assistance.embedded.postgres import EmbeddedPostgresError
from assistance.storage.database import Database, raw_connection
from tests.builders import eventually
from tests.servers.cluster_postgres import PostgresCluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[PostgresCluster]:
    made = PostgresCluster(tmp_path / "cluster")
    try:
        made.start(_create_notes)
        yield made
    except EmbeddedPostgresError as missing:
        pytest.skip(f"no server: {missing}")
    finally:
        made.stop()


def _create_notes(url: str) -> None:
    with raw_connection(url) as connection:
        connection.execute("CREATE TABLE notes (word text)")


def _write(database: Database) -> int:
    """The port of the server that took it."""
    with database.transaction() as connection:
        connection.execute(text("INSERT INTO notes VALUES ('a')"))
        return int(connection.scalar(text("SELECT inet_server_port()")) or 0)


def _writes(database: Database) -> bool:
    try:
        return bool(_write(database))
    except DatabaseUnavailable:
        return False


def test_of_several_hosts_the_one_that_takes_writes_is_used_also_after_a_promotion(cluster: PostgresCluster) -> None:
    assert cluster.standby is not None
    parts = urlsplit(cluster.url)
    backwards = ",".join(reversed(parts.netloc.rpartition("@")[2].split(",")))
    other_way = parts._replace(netloc=f"{parts.username}:{parts.password}@{backwards}").geturl()
    with closing(Database(cluster.url)) as one, closing(Database(other_way)) as other:
        assert {_write(one), _write(other)} == {cluster.primary.port}
        with raw_connection(other_way) as connection:
            assert connection.info.port == cluster.primary.port
        before = cluster.primary.port
        cluster.fail_over()
        cluster.build_standby()
        for database in (one, other):
            eventually(lambda database=database: _writes(database))  # type: ignore[misc]
        assert {_write(one), _write(other)} == {cluster.primary.port} != {before}
    with raw_connection(cluster.primary.url) as connection:
        assert connection.execute("SELECT count(*) FROM notes").fetchone() == (6,)


def test_a_connection_to_a_server_that_takes_no_writes_any_more_is_not_used_again(database_url: str) -> None:
    with closing(Database(database_url, pool_size=1)) as database:
        with database.transaction() as connection:
            connection.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))
        with pytest.raises(DatabaseUnavailable) as refused:
            with database.transaction() as connection:
                connection.execute(text("DELETE FROM outbox"))
        assert isinstance(refused.value.__cause__.orig, psycopg.errors.ReadOnlySqlTransaction)  # type: ignore[union-attr]
        with database.transaction() as connection:
            connection.execute(text("DELETE FROM outbox"))
