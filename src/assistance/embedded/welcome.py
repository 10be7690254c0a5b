"""What `assistance up` says once everything runs, and the first key of an installation that others may reach."""

from __future__ import annotations

from pathlib import Path

from assistance.clients.keys import ApiKey
from assistance.clients.store import any_client, create
from assistance.console.sessions import new_link
from assistance.domain.operator import Role
from assistance.storage.database import Database

_FIRST_CLIENT = "public"
_OWNER = "owner"
_KEY = """
Whoever calls from now on needs a key. This one is shown now and never again (`assistance clients` makes others):

export ASSISTANCE_KEY={key}
"""
_WELCOME = """
assistance is running at {url} (data in {folder}; Ctrl-C stops it){reach}. Ask for help:

  curl {url}/assistance {credential}-H 'Content-Type: application/json' \\
    -d '{{"topic": "sales", "description": "A customer wants an offer for 40 seats."}}'

  curl {url}/assistance {credential}-H 'Content-Type: application/json' \\
    -d '{{"topic": "pricing", "description": "What does the large plan cost?"}}'

and see it arrive in Slack and in the mailbox: {url}/sandbox
Watch it, and act, in the console (this link works once, within an hour; `assistance console-link` makes others):

  {link}

The other commands (assistance list, show, ledger, …) find this installation after:  . {folder}/env
"""


def first_key(database_url: str) -> ApiKey | None:
    """The key of a new client, if this installation has no client yet."""
    database = Database(database_url, pool_size=1)
    try:
        return database.run(lambda connection: None if any_client(connection) else create(connection, _FIRST_CLIENT))
    finally:
        database.close()


def asks_for_keys(database_url: str) -> bool:
    """Whether callers of this installation need a key."""
    database = Database(database_url, pool_size=1)
    try:
        return database.run(any_client)
    finally:
        database.close()


def first_link(database_url: str, url: str) -> str:
    """A link that opens the console of the installation at `url` once, for whoever reads this terminal."""
    database = Database(database_url, pool_size=1)
    try:
        return database.run(lambda connection: new_link(connection, url, _OWNER, Role.ADMIN))
    finally:
        database.close()


def key_text(key: ApiKey) -> str:
    """The first key for the person at the terminal."""
    return _KEY.format(key=key.text)


def welcome_text(url: str, folder: Path, link: str, *, public: bool, with_key: bool) -> str:
    """What to do next, in commands that work when they are copied."""
    return _WELCOME.format(
        url=url,
        folder=folder,
        link=link,
        reach=" and listens on every address of this machine" if public else "",
        credential='-H "Authorization: Bearer $ASSISTANCE_KEY" ' if with_key else "",
    )
