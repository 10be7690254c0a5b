"""The launcher of the embedded PostgreSQL, against the real one."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from assistance.embedded import postgres as launcher
from assistance.embedded.child import Identity, unprivileged
from assistance.embedded.postgres import EmbeddedPostgresError
from tests.servers import ControlledPostgres
from tests.servers.postgres import wait_until_gone

_START_AND_WAIT = """
import sys, time
from pathlib import Path
from assistance.embedded.postgres import PostgresServer
server = PostgresServer(Path(sys.argv[1]))
server.start()
print(server.pid, server.url, flush=True)
time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "postgres"


@pytest.fixture(scope="module")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stopped server's folder; copying it takes a tenth of the time of a first start."""
    server = ControlledPostgres(tmp_path_factory.mktemp("initialised") / "postgres")
    try:
        server.start()
    except EmbeddedPostgresError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no server: {error}")
    server.stop()
    return server.log_file.parent


@pytest.fixture
def server(folder: Path, initialised: Path) -> Iterator[ControlledPostgres]:
    shutil.copytree(initialised, folder)
    server = ControlledPostgres(folder)
    server.start()
    yield server
    server.stop()


def _write_row(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
        connection.execute("INSERT INTO kept VALUES (1)")


def _rows(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM kept").fetchone()
    assert row is not None
    return int(row[0])


def test_the_first_start_makes_a_utf8_database_that_answers_on_loopback_only(server: ControlledPostgres) -> None:
    with psycopg.connect(server.url) as connection:
        row = connection.execute(
            "SELECT current_database(), current_user, current_setting('server_encoding'),"
            " current_setting('listen_addresses'), current_setting('unix_socket_directories'),"
            " current_setting('data_checksums'), lower('É'), current_setting('server_version')"
        ).fetchone()
    assert row is not None
    assert row[:7] == ("assistance", "assistance", "UTF8", "127.0.0.1", "", "on", "é")
    assert row[7].split()[0] == server.version


def test_a_restart_keeps_the_data_and_the_url(server: ControlledPostgres, folder: Path) -> None:
    _write_row(server.url)
    server.stop()
    assert server.pid is None

    again = ControlledPostgres(folder)
    again.start()
    try:
        assert again.url == server.url
        assert _rows(again.url) == 1
    finally:
        again.stop()


@pytest.mark.parametrize("password", ["", ":wrong"])
def test_nobody_gets_in_without_the_password(server: ControlledPostgres, password: str) -> None:
    url = f"postgresql://assistance{password}@127.0.0.1:{server.port}/assistance"
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(url, passfile="/dev/null")


def test_the_folder_stays_closed_to_others_and_its_parents_stay_as_they_were(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    folder = closed / "postgres"
    folder.mkdir(mode=0o755)
    server = ControlledPostgres(folder)
    server.start()
    try:
        _write_row(server.url)
        for path in (closed, folder, folder / "data"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "password").stat().st_mode) == 0o600
    finally:
        server.stop()


def test_a_kill_of_the_starting_process_shuts_the_server_down(folder: Path) -> None:
    starter = subprocess.Popen([sys.executable, "-c", _START_AND_WAIT, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert starter.stdout is not None
        postmaster, url = starter.stdout.readline().split()
        _write_row(url)
    finally:
        starter.kill()
        starter.communicate()
    assert wait_until_gone(int(postmaster))
    assert not (folder / "data" / "postmaster.pid").exists(), "it was killed instead of shut down"


def test_a_new_process_takes_over_at_once_from_one_that_was_killed(folder: Path) -> None:
    starter = subprocess.Popen([sys.executable, "-c", _START_AND_WAIT, str(folder)], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    url = starter.stdout.readline().split()[1]
    _write_row(url)
    starter.kill()
    successor = ControlledPostgres(folder)
    successor.start()
    try:
        assert _rows(successor.url) == 1
    finally:
        successor.stop()
        starter.communicate()


def test_a_kill_of_the_postmaster_and_an_immediate_restart_lose_nothing(server: ControlledPostgres) -> None:
    url = server.url
    for written in range(1, 6):
        _write_row(url)
        with psycopg.connect(url):  # a backend that is alive when its postmaster dies
            server.kill()
            server.start()
        assert server.url == url
        assert _rows(url) == written


def test_a_lock_file_that_names_a_stranger_or_a_zombie_does_not_stop_the_start(server: ControlledPostgres) -> None:
    _write_row(server.url)
    lock_file = server.log_file.parent / "data" / "postmaster.pid"
    stranger = subprocess.Popen(["sleep", "600"])
    zombie = subprocess.Popen(["true"])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    try:
        for process in (stranger, zombie):
            server.kill()
            _, separator, rest = lock_file.read_text().partition("\n")
            lock_file.write_text(f"{process.pid}{separator}{rest}")
            server.start()
            assert _rows(server.url) == 1
    finally:
        stranger.kill()
        stranger.wait()
        zombie.wait()


def test_a_second_server_in_the_same_folder_is_refused(
    server: ControlledPostgres, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "_TAKE_OVER_SECONDS", 0.3)
    second = ControlledPostgres(folder)
    with pytest.raises(EmbeddedPostgresError, match="already running"):
        second.start()
    _write_row(server.url)
    assert _rows(server.url) == 1


def test_a_server_outlives_the_thread_that_started_it(folder: Path) -> None:
    server = ControlledPostgres(folder)
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    try:
        with psycopg.connect(server.url) as connection:
            connection.execute("SELECT pg_sleep(0.3)")  # a shutdown would end the session
    finally:
        server.stop()


def test_a_ctrl_c_in_the_terminal_does_not_reach_the_server(server: ControlledPostgres) -> None:
    assert server.pid is not None
    assert os.getpgid(server.pid) != os.getpgid(0)
    assert os.getsid(server.pid) != os.getsid(0)


def test_a_first_start_that_was_killed_half_way_is_begun_again(folder: Path) -> None:
    (folder / "data.new").mkdir(parents=True)
    (folder / "data.new" / "PG_VERSION").write_text("18\n")
    server = ControlledPostgres(folder)
    server.start()
    try:
        _write_row(server.url)
    finally:
        server.stop()


def test_a_port_that_somebody_took_meanwhile_is_replaced(server: ControlledPostgres, folder: Path) -> None:
    _write_row(server.url)
    server.stop()
    with socket.create_server(("127.0.0.1", server.port)):
        again = ControlledPostgres(folder)
        again.start()
        try:
            assert again.port != server.port
            assert _rows(again.url) == 1
        finally:
            again.stop()


def test_data_of_another_major_version_is_refused_in_a_sentence_and_left_alone(folder: Path) -> None:
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedPostgresError, match="No PostgreSQL 9 was found"):
        ControlledPostgres(folder).start()
    assert [path.name for path in (folder / "data").iterdir()] == ["PG_VERSION"]


def test_a_wrong_setting_is_reported_in_postgresqls_own_words(folder: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match="no_such_setting"):
        ControlledPostgres(folder, settings={"no_such_setting": "1"}).start()


def test_a_stop_ends_sessions_and_is_not_an_error_when_repeated(server: ControlledPostgres) -> None:
    postmaster = server.pid
    assert postmaster is not None
    with psycopg.connect(server.url, autocommit=True) as connection:
        server.stop()
        server.stop()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert wait_until_gone(postmaster)


def test_a_frozen_server_answers_nothing_until_it_is_thawed(server: ControlledPostgres) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        server.freeze()
        connection.pgconn.send_query(b"SELECT 1")
        connection.pgconn.flush()
        assert not _readable(connection, 0.2)
        server.thaw()
        assert _readable(connection, 10)
        while connection.pgconn.get_result() is not None:
            pass


def _readable(connection: psycopg.Connection[tuple[object, ...]], seconds: float) -> bool:
    return bool(select.select([connection.pgconn.socket], [], [], seconds)[0])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another identity")
def test_where_namespaces_are_refused_root_runs_it_as_nobody_with_the_same_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tempfile.TemporaryDirectory() as reachable:
        Path(reachable).chmod(0o755)
        folder = Path(reachable) / "postgres"
        for written, identity in enumerate((unprivileged(), Identity(uid=65534), unprivileged()), start=1):
            monkeypatch.setattr(launcher, "unprivileged", lambda identity=identity: identity)
            server = ControlledPostgres(folder)
            server.start()
            try:
                _write_row(server.url)
                assert _rows(server.url) == written
                assert (folder / "data").stat().st_uid == identity.owner
                assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            finally:
                server.stop()


def test_a_server_that_ignores_a_fast_shutdown_is_killed(
    server: ControlledPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "_STOP_SECONDS", 0.2)
    postmaster = server.pid
    assert postmaster is not None
    _write_row(server.url)
    os.kill(postmaster, signal.SIGSTOP)
    server.stop()
    assert wait_until_gone(postmaster)
    server.start()
    assert _rows(server.url) == 1
