"""What PostgreSQL and its driver complain about, in our words."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import psycopg
from sqlalchemy import exc

from assistance.domain.errors import CommitUnknown, DatabaseUnavailable, SettingsError

#: SQLSTATE classes and codes that time or an operator mends: the server is away, full, read-only or overloaded.
_UNAVAILABLE_CLASSES = ("08", "53", "57", "58")
READ_ONLY = "25006"
_UNAVAILABLE_CODES = (READ_ONLY, "25P03", "55P03", "40001", "40P01")
#: Undefined table or schema: the database was restored or replaced after this process had checked it.
_NO_SCHEMA_CODES = ("42P01", "3F000")
#: Serialisation failure and deadlock: the same transaction, run again, usually succeeds.
TRY_AGAIN_CODES = ("40001", "40P01")
#: What libpq says when no encrypted connection came about, and what we say then: health checks show it to anybody, and
#: libpq's own words name hosts and users.
_TLS_TROUBLES = {
    "certificate verify failed": "its certificate is not trusted",
    "does not match host name": "its certificate is for another name",
    "server does not support SSL": "it offers no encryption",
    "root certificate file": "the file that sslrootcert names cannot be used",
    "invalid sslmode value": "its sslmode is none that PostgreSQL knows",
}


@contextlib.contextmanager
def translated(committing: Callable[[], bool]) -> Iterator[None]:
    """Errors of ours instead of the driver's; `committing` says whether what was sent may have been committed.

    Raises `DatabaseUnavailable`, `CommitUnknown` and `SettingsError`; other errors are bugs and pass through.
    """
    try:
        yield
    except exc.TimeoutError as error:
        raise DatabaseUnavailable("Every database connection is in use.") from error
    except (exc.DBAPIError, psycopg.Error) as error:
        code, original = sqlstate(error) or "", getattr(error, "orig", error)
        if code in _NO_SCHEMA_CODES:
            raise DatabaseUnavailable("The database lacks this program's schema: run `assistance migrate`.") from error
        if isinstance(original, psycopg.ProgrammingError) and not code:
            raise SettingsError(f"ASSISTANCE_DATABASE_URL is wrong: {str(original).strip()}.") from error
        lost = getattr(error, "connection_invalidated", False) or isinstance(original, psycopg.OperationalError)
        if committing() and lost and code not in TRY_AGAIN_CODES:
            raise CommitUnknown from error
        if lost or code[:2] in _UNAVAILABLE_CLASSES or code in _UNAVAILABLE_CODES:
            reason = f" ({code})" if code else tls_trouble(error)
            raise DatabaseUnavailable(f"The database is unavailable{reason}.") from error
        raise


def tls_trouble(error: BaseException) -> str:
    """The end of a sentence about a connection that failed: what is wrong with its encryption, or nothing."""
    words = str(getattr(error, "orig", error))
    return next((f": {ours}" for theirs, ours in _TLS_TROUBLES.items() if theirs in words), "")


def sqlstate(error: BaseException | None) -> str | None:
    """The five-character code that PostgreSQL gave for an error, if there is one."""
    original = getattr(error, "orig", error)
    return getattr(original, "sqlstate", None)
