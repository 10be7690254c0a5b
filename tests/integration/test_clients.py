"""Clients with keys over a real database: who gets in, what they see, and how soon a key stops."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select, update
from werkzeug.test import TestResponse

from assistance.bootstrap.checks import check_start
from assistance.clients import store
from assistance.clients.authenticate import Authenticator
from assistance.clients.keys import ApiKey, new_key
from assistance.domain.caller import ANONYMOUS, Scope
from assistance.domain.errors import ClientError, DatabaseUnavailable, SettingsError, Unauthenticated
from assistance.embedded.ports import free_port
from assistance.embedded.welcome import asks_for_keys, first_key
from assistance.runtime.clock import Deadline
from assistance.settings import load_settings
from assistance.storage.database import Database
from assistance.storage.expressions import from_now
from assistance.storage.tables import client_keys, clients
from assistance.wsgi import build_app
from tests.builders import eventually
from tests.servers import ControlledPostgres
from tests.terminal import Terminal

BODY = {"topic": "help", "description": "A customer wants an offer for 40 seats."}


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url, pool_size=8)
    yield opened
    opened.close()


@pytest.fixture
def caller(terminal: Terminal) -> FlaskClient:
    """Calls the whole API over the test's database; `terminal` sets its environment."""
    return build_app(load_settings()).test_client()


def bearer(key: ApiKey | str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key.text if isinstance(key, ApiKey) else key}"}


def make(database: Database, name: str, *scopes: Scope, **options: Any) -> ApiKey:
    wanted = scopes or store.DEFAULT_SCOPES
    return database.run(lambda connection: store.create(connection, name, scopes=wanted, **options))


def same_for_all(answer: TestResponse) -> tuple[Any, ...]:
    """All of an answer but what differs between two calls of the same kind."""
    headers = {name: value for name, value in answer.headers if name not in ("X-Request-Id", "RateLimit")}
    return answer.status_code, headers, re.sub(rb'"request_id":"[^"]+"', b"", answer.data)


def test_every_credential_that_is_no_good_gets_the_same_answer(caller: FlaskClient, database: Database) -> None:
    good, revoked = make(database, "bot"), make(database, "gone")
    expired, other = make(database, "late", expires_seconds=3600), new_key()
    database.run(lambda connection: store.revoke(connection, "gone"))
    database.run(
        lambda connection: connection.execute(
            update(client_keys).where(client_keys.c.client == "late").values(expires_at=func.now())
        )
    )
    half_right = good.text[:-4] + ("AAAA" if good.text[-4:] != "AAAA" else "BBBB")
    tokens = [
        *("", " ", "x", "Bearer", half_right, other.text, revoked.text, expired.text, good.text[:-1], good.text + "A"),
        *(good.text.upper(), good.prefix, "é" * 50, "asst_" + "A" * 10_240, "a.b.c", "eyJhbGciOiJub25lIn0.e30."),
        *(
            f"{good.text} {good.text}",
            f'"{good.text}"',
            f"{good.text},{good.text}",
            "\u00a0" + good.text,
            "' OR 1=1 --",
        ),
    ]
    headers = [bearer(token) for token in tokens]
    headers += [{}, {"Authorization": ""}, {"Authorization": good.text}, {"Authorization": f"Basic {good.text}"}]
    headers += [{"Authorization": f"Token {good.text}"}, {"X-Api-Key": good.text}, {"Cookie": f"key={good.text}"}]
    answers = [caller.get("/assistance/x", headers=given) for given in headers]
    answers += [caller.get(f"/assistance/x?{name}={good.text}") for name in ("key", "access_token", "api_key")]
    assert {answer.status_code for answer in answers} == {401}
    assert answers[0].headers["WWW-Authenticate"] == "Bearer"
    assert all(same_for_all(answer) == same_for_all(answers[0]) for answer in answers[1:])
    assert len({len(answer.data) for answer in answers}) == 1
    for scheme in ("Bearer", "bearer", "BEARER", "Bearer  "):
        assert caller.get("/assistance/x", headers={"Authorization": f"{scheme} {good.text}"}).status_code == 404


def test_a_token_is_in_no_log_line(
    caller: FlaskClient, database: Database, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    key, revoked = make(database, "bot"), make(database, "gone")
    database.run(lambda connection: store.revoke(connection, "gone"))
    for given in (key.text, revoked.text, key.text[:-1] + "_", "header.payload.signature"):
        caller.post("/assistance", json=BODY, headers=bearer(given))
    captured = capsys.readouterr()
    said = captured.out + captured.err + caplog.text
    assert "api.caller_refused" in said
    for secret in (key.text[14:], revoked.text[14:], "header.payload"):
        assert secret not in said


def test_another_clients_request_answers_exactly_like_one_that_never_was(
    caller: FlaskClient, database: Database
) -> None:
    mine, theirs = bearer(make(database, "mine")), bearer(make(database, "theirs"))
    operator = bearer(make(database, "people", Scope.OPERATE))
    location = caller.post("/assistance", json=BODY, headers=theirs).headers["Location"]
    unknown = "/assistance/01a1fc7e-2ccd-784a-8c72-549b47e809ff"

    def told(path: str) -> tuple[Any, ...]:
        status, headers, body = same_for_all(caller.get(path, headers=mine))
        return status, headers, body.replace(path.encode(), b"")

    assert told(location) == told(unknown)
    assert told(location)[0] == 404
    etag = caller.get(location, headers=theirs).headers["ETag"]
    assert caller.get(location, headers={**mine, "If-None-Match": etag}).status_code == 404
    assert caller.get(location, headers=theirs).get_json()["status"] == "accepted"
    assert caller.get(location, headers=operator).status_code == 200


def test_two_clients_may_use_the_same_idempotency_key(caller: FlaskClient, database: Database) -> None:
    ids = set()
    for name in ("one", "two"):
        headers = {**bearer(make(database, name)), "Idempotency-Key": "same"}
        answers = [caller.post("/assistance", json=BODY, headers=headers) for _ in range(2)]
        assert [answer.headers.get("Idempotency-Replayed") for answer in answers] == [None, "true"]
        ids |= {answer.get_json()["id"] for answer in answers}
    assert len(ids) == 2


class Door:
    """An authenticator, as a process has one."""

    def __init__(self, database: Database, *, anonymous_allowed: bool = False) -> None:
        self._ask = Authenticator(database, anonymous_allowed=anonymous_allowed)

    def __call__(self, key: ApiKey | None = None) -> str:
        """The client, or why it is refused."""
        try:
            found = self._ask(f"Bearer {key.text}" if key else None, Deadline.after(2))
        except Unauthenticated as refused:
            return f"refused: {refused.reason}"
        return "anonymous" if found is ANONYMOUS else found.client


def test_a_revoked_key_stops_within_two_seconds_in_every_process(database: Database) -> None:
    key, other = make(database, "bot"), make(database, "other")
    doors = [Door(database), Door(database)]
    assert [door(key) for door in doors] == ["bot", "bot"]
    database.run(lambda connection: store.revoke(connection, key.prefix))
    began = time.monotonic()
    eventually(lambda: {door(key) for door in doors} == {"refused: revoked"}, seconds=5)
    assert time.monotonic() - began < 2
    assert doors[0](other) == "other"


def test_a_busy_client_costs_no_query_per_call(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    key, door = make(database, "bot"), Door(database)
    opened: list[int] = []
    transaction = database.transaction

    def counted(*arguments: Any) -> Any:
        opened.append(threading.get_ident())
        return transaction(*arguments)

    monkeypatch.setattr(database, "transaction", counted)
    began = time.monotonic()
    assert {door(key) for _ in range(500)} == {"bot"}
    # One look a second; the last use is written by another thread.
    assert opened.count(threading.get_ident()) <= 1 + (time.monotonic() - began)


def test_the_last_use_is_written_down_once_a_minute_and_not_for_who_only_knows_the_prefix(database: Database) -> None:
    key, door = make(database, "bot"), Door(database)

    def last_use() -> Any:
        with database.transaction() as connection:
            return connection.scalar(select(client_keys.c.last_used_at))

    wrong = ApiKey(prefix=key.prefix, text=f"asst_{key.prefix}_{'A' * 43}")
    assert door(wrong) == "refused: unknown"
    assert door(key) == "bot"
    first = eventually(last_use)
    time.sleep(1.1)
    assert door(key) == "bot"
    assert Door(database)(key) == "bot"
    time.sleep(0.2)
    assert last_use() == first
    database.run(lambda connection: connection.execute(update(client_keys).values(last_used_at=from_now(-61))))
    Door(database)(key)
    assert eventually(lambda: last_use() > first)


def test_callers_are_anonymous_until_the_first_client_and_never_again(database: Database) -> None:
    on_loopback, outward = Door(database, anonymous_allowed=True), Door(database)
    assert (on_loopback(), outward()) == ("anonymous", "refused: missing")
    key = make(database, "bot")
    eventually(lambda: on_loopback() == "refused: missing", seconds=2)
    assert on_loopback(key) == outward(key) == "bot"
    database.run(lambda connection: connection.execute(clients.delete()))
    time.sleep(1.1)
    assert on_loopback() == "refused: missing"


def test_a_database_that_is_away_is_said_and_never_blamed_on_the_caller(
    own_postgres: Callable[..., ControlledPostgres],
) -> None:
    server = own_postgres()
    database = Database(server.url, pool_size=2)
    key, door = make(database, "bot"), Door(database)
    assert door(key) == "bot"
    server.stop()
    time.sleep(1.1)
    for given in (key, new_key()):
        with pytest.raises(DatabaseUnavailable):
            door(given)
    with pytest.raises(DatabaseUnavailable):
        Door(database, anonymous_allowed=True)()
    assert door() == "refused: missing"
    server.start()
    eventually(lambda: door(key) == "bot")
    database.close()


def test_a_rotation_leaves_the_old_key_a_grace_and_keeps_scopes_and_lifetime(database: Database) -> None:
    old = make(database, "bot", Scope.READ, expires_seconds=90 * 86400.0)
    forever = make(database, "forever")
    new = database.run(lambda connection: store.rotate(connection, "bot", grace_seconds=86400))
    newest = database.run(lambda connection: store.rotate(connection, "bot", grace_seconds=0))
    next_forever = database.run(lambda connection: store.rotate(connection, "forever", grace_seconds=60))
    door = Door(database)
    assert [door(key) for key in (old, new, newest)] == ["refused: expired", "refused: expired", "bot"]
    assert [door(key) for key in (forever, next_forever)] == ["forever", "forever"]
    with database.transaction() as connection:
        listed = {key.prefix: key for key in store.list_keys(connection)}
    assert [list(listed[key.prefix].scopes) for key in (old, new, newest)] == [["read"]] * 3
    lifetime = listed[newest.prefix].expires_at - listed[newest.prefix].created_at  # type: ignore[operator]
    assert lifetime.total_seconds() == 90 * 86400
    assert listed[next_forever.prefix].expires_at is None
    database.run(lambda connection: store.revoke(connection, "bot"))
    again = database.run(lambda connection: store.rotate(connection, "bot", grace_seconds=86400))
    assert (Door(database)(newest), Door(database)(again)) == ("refused: revoked", "bot")
    for change in (store.rotate, store.revoke):
        options = {"grace_seconds": 1} if change is store.rotate else {}
        with pytest.raises(ClientError, match="nobody"):
            database.run(lambda connection: change(connection, "nobody", **options))  # noqa: B023 (called at once)


def test_the_first_key_of_an_installation_is_made_once(database_url: str, database: Database) -> None:
    assert not asks_for_keys(database_url)
    key = first_key(database_url)
    assert key is not None
    assert Door(database)(key) == "public"
    assert asks_for_keys(database_url)
    assert first_key(database_url) is None


def test_the_database_keeps_no_key_that_could_be_used(database: Database) -> None:
    key = make(database, "bot")
    with database.transaction() as connection:
        row = connection.execute(select(client_keys)).one()
    assert key.text[14:] not in repr(row)
    assert row.digest == key.digest


def test_the_commands_make_list_rotate_and_revoke(terminal: Terminal, database: Database) -> None:
    code, out = terminal.run("clients", "create", "bot", "--scope", "read", "--expires", "90d")
    first = out.strip()
    assert (code, out.count("\n")) == (0, 1)
    assert "never again" in terminal.err
    assert first not in terminal.err
    code, out = terminal.run("clients", "rotate", "bot", "--grace", "1h")
    second = out.strip()
    listed = json.loads(terminal.run("clients", "list", "--json")[1])
    assert [key["scopes"] for key in listed["keys"]] == [["read"], ["read"]]
    assert [key["prefix"] for key in listed["keys"]] == [first[5:13], second[5:13]]
    assert terminal.run("clients", "create", "nobody", "--without-key") == (0, "")
    assert terminal.run("clients", "create", "nobody", "--without-key") == (0, "")
    table = terminal.run("clients", "list")[1]
    assert first[5:13] in table
    assert "nobody" in table
    assert first not in table
    assert terminal.run("clients", "revoke", first[5:13]) == (0, "1 key is revoked.\n")
    assert terminal.run("clients", "revoke", "bot") == (0, "1 key is revoked.\n")
    assert [
        key["state"] for key in json.loads(terminal.run("clients", "list", "--json")[1].splitlines()[0])["keys"]
    ] == [
        "revoked",
        "revoked",
    ]
    assert terminal.run("clients", "create", "bot")[0] == 1
    assert "clients rotate bot" in terminal.err
    for words in (["create", "Bot"], ["create", "x", "--scope", "all"], ["create", "x", "--expires", "soon"]):
        assert terminal.run("clients", *words)[0] == 2
    assert terminal.run("clients", "revoke", "unknown")[0] == 1


def test_the_api_refuses_to_listen_beyond_this_machine_until_callers_need_a_key(
    terminal: Terminal, database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    check_start(load_settings())
    refused = subprocess.run(
        [sys.executable, "-m", "assistance", "api"],
        env={**os.environ, "ASSISTANCE_HTTP_HOST": "0.0.0.0", "ASSISTANCE_HTTP_PORT": str(free_port())},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
    assert refused.stderr.startswith(
        "ASSISTANCE_HTTP_HOST is 0.0.0.0, but callers need no key yet: make a client first"
    )
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.com"):
        monkeypatch.setenv("ASSISTANCE_HTTP_HOST", host)
        with pytest.raises(SettingsError, match=r"callers need no key yet: make a client first .*clients create NAME"):
            check_start(load_settings())
    assert build_app(load_settings()).test_client().get("/topics").status_code == 401
    config = tmp_path / "assistance.toml"
    before = config.read_text(encoding="utf-8")
    issuer = '\n[issuers.sso]\nissuer = "x"\naudience = "y"\nalgorithms = ["RS256"]\njwks = "file:/nowhere"\n'
    config.write_text(before + issuer, encoding="utf-8")
    check_start(load_settings())
    config.write_text(before, encoding="utf-8")
    assert terminal.run("clients", "create", "nobody", "--without-key")[0] == 0
    check_start(load_settings())
