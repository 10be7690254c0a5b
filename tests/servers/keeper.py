"""Keeps one server for a test run: `python -m tests.servers.keeper KIND SESSION_FOLDER OWNER_PID`.

A process of its own, so that the workers of pytest-xdist can share the server without any of them having to live
longest. It ends on SIGTERM, or when the run (OWNER_PID) ended in whatever way, and takes the server with it.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import sys
import traceback
from pathlib import Path

from assistance.embedded.databases import drop_database
from assistance.storage.database import raw_connection
from tests.servers import ladder
from tests.servers.missing import ServerMissing

KINDS = {"postgres": ladder.postgres, "rabbit": ladder.rabbit}


def main(kind: str, session_folder: str, owner: str) -> None:
    session = Path(session_folder)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        owner_ended = os.pidfd_open(int(owner))
    except ProcessLookupError:
        return
    try:
        _keep(kind, session, owner_ended)
    finally:
        shutil.rmtree(session / kind, ignore_errors=True)
        if _has_ended(owner_ended):
            _tidy_up(session, kind)


def _keep(kind: str, session: Path, owner_ended: int) -> None:
    state = session / f"{kind}.json"
    try:
        with KINDS[kind](session / kind) as server:
            _publish(state, {"server": server.to_json()})
            try:
                select.select([owner_ended], [], [])
            finally:
                if server.how.startswith("ASSISTANCE_TEST_"):
                    _remove_leftovers(kind, server, session.name)
    except ServerMissing as missing:
        _publish(state, {"missing": str(missing)})
    except Exception:  # noqa: BLE001 (the tests that wait for the server report it)
        _publish(state, {"failed": traceback.format_exc()})


def _publish(state: Path, content: object) -> None:
    unfinished = state.with_suffix(".new")
    unfinished.touch(mode=0o600)
    unfinished.write_text(json.dumps(content))
    unfinished.rename(state)


def _remove_leftovers(kind: str, server: ladder.Server, prefix: str) -> None:
    """A server that stays must not keep what killed tests left on it."""
    if kind == "rabbit":
        names = [vhost["name"] for vhost in json.loads(server.manage("GET", "vhosts"))]
        server.change_vhosts([], [name for name in names if name.startswith(prefix)])
        return
    with raw_connection(server.url) as connection:
        connection.execute("UPDATE pg_database SET datistemplate = false WHERE starts_with(datname, %s)", [prefix])
        rows = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [prefix])
        for (name,) in rows.fetchall():
            drop_database(server.url, name)


def _has_ended(process: int) -> bool:
    return bool(select.select([process], [], [], 0)[0])


def _tidy_up(session: Path, kind: str) -> None:
    """The run was killed and cannot remove its folder: the last keeper does."""
    (session / f"{kind}.keeper").unlink(missing_ok=True)
    if not list(session.glob("*.keeper")):
        shutil.rmtree(session, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
