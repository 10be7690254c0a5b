"""PostgreSQL with `sslmode=verify-full`: every connection of ours is encrypted, to a server that proves who it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from assistance.domain.errors import DatabaseUnavailable
from assistance.outbox.hint import WakeUpSender
from assistance.relay.wakeup import WakeUp
from assistance.storage.database import Database, raw_connection
from assistance.storage.migrate import migrate
from tests.builders import Line, ScriptedChannel, World, eventually
from tests.certificates import Authority
from tests.servers.encrypted import EncryptedPostgres


@pytest.fixture(scope="module")
def url(encrypted_postgres: EncryptedPostgres, authority: Authority) -> str:
    """A database with the schema, which was made over such a connection too."""
    made = encrypted_postgres.tls_url(authority.file)
    migrate(made)
    return made


def test_a_request_is_stored_and_told_over_encrypted_connections_alone(url: str) -> None:
    world = World(url)
    line = Line(world, {"people": ScriptedChannel()})
    try:
        accepted = world.submit()
        line.run_until(lambda: world.request(accepted.id).status == "delivered")
        seen = world.rows(
            "SELECT ssl, version FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE client_addr IS NOT NULL"
        )
        assert {(row.ssl, row.version) for row in seen} == {(True, "TLSv1.3")}
    finally:
        line.stop()
        world.close()


def test_a_pooled_connection_is_used_again_though_it_is_encrypted(url: str) -> None:
    """A pool that took what TLS says by itself for a lost connection would connect anew each time."""
    with closing(Database(url, pool_size=1)) as database:
        backends = []
        for _ in range(3):
            with database.transaction() as connection:
                backends.append(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar())
            time.sleep(0.05)
    assert len(set(backends)) == 1


def test_a_wake_up_crosses_encrypted_connections(url: str) -> None:
    stop = threading.Event()
    wake_up, sender = WakeUp(url, 60, stop), WakeUpSender(url)

    def woken_after_a_notification() -> bool:
        sender.send()  # the listener may not be there yet
        return wake_up._woken.wait(0.05)

    try:
        eventually(woken_after_a_notification)
    finally:
        stop.set()
        sender.close()
        wake_up._thread.join(5)


def refusals(url: str) -> set[str]:
    """What every way of ours to a database says when it cannot be connected to."""
    ways: list[Callable[[], object]] = [lambda: raw_connection(url).close(), lambda: migrate(url)]
    said = set()
    with closing(Database(url)) as database:
        for way in [*ways, database.check]:
            with pytest.raises(DatabaseUnavailable) as caught:
                way()
            said.add(str(caught.value).replace("is unavailable", "cannot be reached"))
    return said


def test_a_server_with_a_certificate_for_another_name_is_refused(
    encrypted_postgres: EncryptedPostgres, authority: Authority
) -> None:
    assert refusals(encrypted_postgres.tls_url(authority.file, "localhost")) == {
        "The database cannot be reached: its certificate is for another name."
    }


def test_a_server_of_an_unknown_authority_is_refused(encrypted_postgres: EncryptedPostgres, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "another")
    assert refusals(encrypted_postgres.tls_url(stranger.file)) == {
        "The database cannot be reached: its certificate is not trusted."
    }


def test_an_authority_whose_file_is_missing_is_named_as_the_reason(
    encrypted_postgres: EncryptedPostgres, tmp_path: Path
) -> None:
    assert refusals(encrypted_postgres.tls_url(tmp_path / "missing.pem")) == {
        "The database cannot be reached: the file that sslrootcert names cannot be used."
    }


def test_an_sslmode_that_does_not_exist_is_named_as_the_reason(
    encrypted_postgres: EncryptedPostgres, authority: Authority
) -> None:
    mistaken = encrypted_postgres.tls_url(authority.file).replace("verify-full", "verify_full")
    assert refusals(mistaken) == {"The database cannot be reached: its sslmode is none that PostgreSQL knows."}


def test_a_server_that_does_not_encrypt_is_refused(database_url: str, authority: Authority) -> None:
    demanding = f"{database_url}{'&' if '?' in database_url else '?'}sslmode=verify-full&sslrootcert={authority.file}"
    with closing(Database(database_url)) as database, database.transaction() as connection:
        if connection.exec_driver_sql("SHOW ssl").scalar() == "on":
            pytest.skip("the server that was given encrypts")
    assert refusals(demanding) == {"The database cannot be reached: it offers no encryption."}


def test_a_certificate_that_has_expired_is_refused_and_its_successor_is_taken(
    encrypted_postgres: EncryptedPostgres, authority: Authority, url: str
) -> None:
    encrypted_postgres.show(authority.issue("127.0.0.1", expired=True))
    assert refusals(url) == {"The database cannot be reached: its certificate is not trusted."}
    encrypted_postgres.show(authority.issue("127.0.0.1"))
    raw_connection(url).close()
