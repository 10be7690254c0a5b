"""How the API knows its callers, and where it may listen as long as there is nobody to know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assistance.clients.authenticate import Authenticator
from assistance.clients.store import any_client
from assistance.configuration import Configuration
from assistance.domain.errors import SettingsError
from assistance.runtime.addresses import is_loopback
from assistance.settings import Settings
from assistance.storage.database import Database

if TYPE_CHECKING:
    from assistance.clients.issuers import Issuer


def authenticator_of(settings: Settings, configuration: Configuration, database: Database) -> Authenticator:
    """How callers are known. Raises `SettingsError` when an issuer's secret cannot be had."""
    return Authenticator(database, open_issuers(configuration), anonymous_allowed=is_loopback(settings.http_host))


def open_issuers(configuration: Configuration) -> list[Issuer]:
    """The issuers with their secrets. Raises `SettingsError`."""
    if not configuration.issuers:
        return []  # and the library that reads their tokens, a fifth of this process's start, stays away
    from assistance.clients.issuers import open_issuer

    return [open_issuer(issuer) for issuer in configuration.issuers.values()]


def check_address(settings: Settings, configuration: Configuration, database: Database) -> None:
    """Prove that nobody but this machine can reach an API that lets everybody in.

    Raises `SettingsError`, and `DatabaseUnavailable` when nobody can tell; then the running API lets nobody in until
    there is a client.
    """
    if is_loopback(settings.http_host) or configuration.issuers:
        return
    with database.transaction() as connection:
        if not any_client(connection):
            raise SettingsError(
                f"ASSISTANCE_HTTP_HOST is {settings.http_host}, but callers need no key yet: make a client first "
                "(`assistance clients create NAME`), or listen on 127.0.0.1."
            )
