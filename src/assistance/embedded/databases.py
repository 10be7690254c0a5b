"""Creating and dropping databases of a server."""

from __future__ import annotations

from psycopg import sql

from assistance.storage.database import raw_connection


def create_database(server_url: str, name: str, *, template: str | None = None) -> None:
    """Create a database on the server that `server_url` reaches, as a copy of `template` if one is named."""
    statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
    if template is not None:
        statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
    with raw_connection(server_url) as connection:
        connection.execute(statement)


def drop_database(server_url: str, name: str) -> None:
    """Drop a database of the server that `server_url` reaches if it exists, ending its sessions."""
    with raw_connection(server_url) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
