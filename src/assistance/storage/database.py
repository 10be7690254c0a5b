"""The one way to reach PostgreSQL: transactions with a deadline, and errors of ours instead of the driver's."""

from __future__ import annotations

import contextlib
import select
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import psycopg
import sqlalchemy
from sqlalchemy import Connection, event, exc
from sqlalchemy.engine import URL, make_url

from assistance.domain.errors import DatabaseUnavailable, SchemaMismatch, SettingsError
from assistance.runtime.clock import Deadline, sleep
from assistance.runtime.metrics import db_pool_in_use, db_pool_size, db_write_seconds
from assistance.runtime.watchdog import shut_socket, watchdog
from assistance.storage.tables import SCHEMA_REVISION
from assistance.storage.troubles import READ_ONLY, TRY_AGAIN_CODES, sqlstate, tls_trouble, translated

_TRIES = 3
_PAUSE_SECONDS = 0.05
#: After how many times a connection keeps the plan of a statement, and where a plan may look for its rows then: it may
#: have been made while a table was empty, and would read all of it however large it grows until it is analysed.
_PLANNED_ONCE_AFTER = 5
_BY_INDEX_ALONE = "".join(f" -c enable_{way}=off" for way in ("seqscan", "bitmapscan", "hashjoin", "mergejoin"))

Result = TypeVar("Result")


class Database:
    """A pool of connections to one PostgreSQL installation.

    Thread-safe; one per process. Every transaction ends by its deadline, also when the server goes silent: no driver
    time-out ends a call to a silent server, so a watchdog shuts the socket down.

    With `looks_up`, statements are planned once for a connection, which is half of what a small one costs the server:
    for processes that make the same few all day, all of which find their rows by an index.
    """

    def __init__(
        self,
        url: str,
        *,
        deadline_seconds: float = 30.0,
        pool_size: int = 10,
        application: str = "assistance",
        looks_up: bool = False,
    ) -> None:
        self._deadline_seconds = deadline_seconds
        self._pool_size = pool_size
        self._is_closed = False
        self._in_use, self._size = db_pool_in_use.labels(application), db_pool_size.labels(application)
        self._size.inc(pool_size)
        patience = max(1, round(deadline_seconds * 0.4))
        self._engine = sqlalchemy.create_engine(
            driver_url(url),
            # What a statement was given is what customers said, and secrets.
            hide_parameters=True,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=patience,
            pool_use_lifo=True,
            connect_args={
                "connect_timeout": patience,
                "application_name": application,
                "options": "-c timezone=UTC -c idle_in_transaction_session_timeout=15s"
                + (_BY_INDEX_ALONE if looks_up else ""),
                "prepare_threshold": _PLANNED_ONCE_AFTER if looks_up else None,
            },
        )
        event.listen(self._engine, "checkout", _refuse_dead_connection)
        event.listen(self._engine, "handle_error", _leave_standby)

    @contextlib.contextmanager
    def transaction(self, deadline: Deadline | None = None) -> Iterator[Connection]:
        """A transaction: committed when the block ends, rolled back when it raises.

        Raises `DatabaseUnavailable` when the server is away, silent or refuses work, and `CommitUnknown` when contact
        was lost while committing. Other database errors are bugs and pass through.
        """
        deadline = deadline or Deadline.after(self._deadline_seconds)
        committing = False
        with translated(lambda: committing), self._connection() as connection:
            with watchdog.at(deadline, _cut(connection)), connection.begin() as transaction:
                yield connection
                committing = True
                transaction.commit()

    @contextlib.contextmanager
    def look(self, deadline: Deadline | None = None) -> Iterator[Connection]:
        """A connection to read on, where each statement is a transaction and takes one exchange with the server.

        Raises `DatabaseUnavailable`.
        """
        deadline = deadline or Deadline.after(self._deadline_seconds)
        with translated(lambda: False), self._connection() as connection:
            with watchdog.at(deadline, _cut(connection)):
                yield connection.execution_options(isolation_level="AUTOCOMMIT")

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Connection]:
        if self._is_closed:
            raise DatabaseUnavailable("This process has closed its database.")
        with self._connect() as connection, self._in_use.track_inprogress():
            try:
                yield connection
            finally:
                if self._is_closed and not connection.invalidated:
                    connection.detach()  # or it would go back to a pool that nobody closes any more

    def _connect(self) -> Connection:
        try:
            return self._engine.connect()
        except OSError as error:  # this process may open nothing more
            raise DatabaseUnavailable(f"The database cannot be reached ({error.strerror}).") from error

    def run(self, work: Callable[[Connection], Result], deadline: Deadline | None = None) -> Result:
        """Run `work` in a transaction; again, twice at most and 50 ms apart, on a deadlock or serialisation failure."""

        def once() -> Result:
            with self.transaction(deadline) as connection:
                return work(connection)

        return _again_after_a_conflict(once)

    def run_at_once(self, statement: str, parameters: Mapping[str, Any], deadline: Deadline) -> list[tuple[Any, ...]]:
        """Run one statement that is a transaction of its own, and return its rows; repeated as `run` does.

        It takes one exchange with the server where a transaction takes three. The statement is psycopg's, and so are
        the errors that are bugs. Raises `DatabaseUnavailable`, and `CommitUnknown` when contact was lost meanwhile.
        """
        return _again_after_a_conflict(lambda: self._at_once(statement, parameters, deadline, is_harmless=False))

    def read_at_once(self, statement: str, parameters: Mapping[str, Any], deadline: Deadline) -> list[tuple[Any, ...]]:
        """The rows of one statement of psycopg's that changes nothing. Raises `DatabaseUnavailable`."""
        return self._at_once(statement, parameters, deadline, is_harmless=True)

    def _at_once(
        self, statement: str, parameters: Mapping[str, Any], deadline: Deadline, *, is_harmless: bool
    ) -> list[tuple[Any, ...]]:
        sent = False
        with translated(lambda: sent and not is_harmless), self._connection() as connection:
            with watchdog.at(deadline, _cut(connection)), _committing_itself(connection) as driver:
                sent = True
                return driver.execute(statement, parameters).fetchall()

    def check(self, deadline: Deadline | None = None, *, newer_is_fine: bool = False) -> None:
        """Prove that the database answers and holds our schema.

        `newer_is_fine` is for a process that runs already: it goes on working beside those of the next version.
        Raises `DatabaseUnavailable` or `SchemaMismatch`.
        """
        with self.transaction(deadline) as connection:
            found = schema_revision(connection)
        if newer_is_fine and found is not None and found > SCHEMA_REVISION:
            return
        if found != SCHEMA_REVISION:
            raise SchemaMismatch(
                f"The database's schema is at {found or 'nothing yet'}, this program needs {SCHEMA_REVISION}: "
                + ("run `assistance migrate`." if found is None or found < SCHEMA_REVISION else "run a newer program.")
            )

    def close(self) -> None:
        """Close every connection: those in use when they are given back. Whoever asks for one later gets none."""
        self._is_closed = True
        self._engine.dispose()
        self._size.dec(self._pool_size)
        self._pool_size = 0


def schema_revision(connection: Connection) -> str | None:
    """The Alembic revision that the database is at, or none."""
    if connection.scalar(sqlalchemy.text("SELECT to_regclass('alembic_version')")) is None:
        return None
    revision: str | None = connection.scalar(sqlalchemy.text("SELECT version_num FROM alembic_version"))
    return revision


def driver_url(url: str) -> URL:
    """The URL as SQLAlchemy wants it, with psycopg 3 as the driver.

    Several hosts may be named (`postgresql://a:5432,b:5432/name`), as libpq allows: the one that takes writes is used,
    unless the URL says otherwise (`target_session_attrs`). Raises `SettingsError`.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.split("+")[0] not in ("postgresql", "postgres"):
        raise SettingsError("ASSISTANCE_DATABASE_URL is wrong: it starts with postgresql://.")
    authority, slash, path = rest.partition("/")
    credentials, at, hosts = authority.rpartition("@")
    pairs = [host.partition(":") for host in hosts.split(",")] if "," in hosts else []
    try:
        parsed = make_url(f"postgresql+psycopg://{credentials}{at}{'' if pairs else hosts}{slash}{path}")
    except (exc.ArgumentError, ValueError) as error:
        raise SettingsError("ASSISTANCE_DATABASE_URL is wrong: it is not a URL.") from error
    if pairs:
        query = {"host": ",".join(p[0] for p in pairs), "port": ",".join(p[2] or "5432" for p in pairs)}
        parsed = parsed.update_query_dict({"target_session_attrs": "read-write", **parsed.query, **query})
    return parsed


def raw_connection(url: str) -> psycopg.Connection[Any]:
    """An autocommit connection outside the pool, for LISTEN, NOTIFY and advisory locks.

    Raises `DatabaseUnavailable`.
    """
    parsed = driver_url(url)
    query = {key: value for key, value in parsed.query.items() if isinstance(value, str)}
    parameters: dict[str, Any] = {
        "host": parsed.host,
        "port": parsed.port,
        "user": parsed.username,
        "password": parsed.password,
        "dbname": parsed.database,
        "connect_timeout": 5,
        # Nobody watches these connections: the kernel has to notice a server that is gone.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 15_000,
        **query,
    }
    try:
        return psycopg.connect(
            **{key: value for key, value in parameters.items() if value is not None}, autocommit=True
        )
    except (psycopg.OperationalError, OSError) as error:
        raise DatabaseUnavailable(f"The database cannot be reached{tls_trouble(error)}.") from error
    except psycopg.ProgrammingError as error:
        raise SettingsError(f"ASSISTANCE_DATABASE_URL is wrong: {str(error).strip()}.") from error


def _again_after_a_conflict(once: Callable[[], Result]) -> Result:
    for last in (False,) * (_TRIES - 1) + (True,):
        try:
            with db_write_seconds.time():
                return once()
        except DatabaseUnavailable as error:
            if last or sqlstate(error.__cause__) not in TRY_AGAIN_CODES:
                raise
            sleep(_PAUSE_SECONDS)
    raise AssertionError("unreachable")


@contextlib.contextmanager
def _committing_itself(connection: Connection) -> Iterator[psycopg.Connection[Any]]:
    """The driver's connection, on which each statement is a transaction; the pool gets rid of it when it broke."""
    driver: Any = connection.connection.driver_connection
    driver.autocommit = True
    try:
        yield driver
    except psycopg.Error as error:
        if driver.closed or sqlstate(error) == READ_ONLY:
            connection.invalidate(error)
        raise
    finally:
        if not driver.closed:
            driver.autocommit = False


def _cut(connection: Connection) -> Callable[[], None]:
    driver: Any = connection.connection.driver_connection

    def cut() -> None:
        # A connection that broke already has no socket any more; the watchdog's thread must not end because of it.
        with contextlib.suppress(psycopg.Error):
            shut_socket(driver.pgconn.socket)

    return cut


def _leave_standby(context: sqlalchemy.ExceptionContext) -> None:
    """The server takes no writes any more: its connections would stay useless after another one was promoted."""
    if sqlstate(context.original_exception) == READ_ONLY:
        context.is_disconnect = True


def _refuse_dead_connection(driver: Any, _record: Any, _proxy: Any) -> None:
    """A pooled connection whose socket became readable while idle was closed by the server: take another one."""
    poll = select.poll()
    poll.register(driver.pgconn.socket, select.POLLIN | select.POLLERR | select.POLLHUP)
    if driver.closed or poll.poll(0):
        raise exc.DisconnectionError("closed by the server while idle")
