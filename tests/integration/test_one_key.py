"""One Idempotency-Key, over HTTP and against a real database: one request and one message, whatever happens."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assistance.domain.answers import Accepted, IdempotencyKey
from assistance.domain.errors import OutboxFull, QuotaExceeded
from assistance.domain.outcome import Rejected, RejectionReason
from assistance.domain.request import Submission
from assistance.embedded.ports import free_port
from assistance.intake import backlog, quota
from assistance.runtime.clock import Deadline
from assistance.settings import environment_with, load_settings
from assistance.wsgi import build_app
from tests import nursery
from tests.builders import RECEIPT, Line, ScriptedChannel, World, eventually
from tests.nursery import Child
from tests.proxy import Proxy
from tests.terminal import Terminal

CALLERS = 50
FIRE, WATER = "The printer is on fire.", "The printer is wet."
PATIENCE_SECONDS = 30


@pytest.fixture
def port(terminal: Terminal, database_url: str, tmp_path: Path) -> Iterator[int]:
    """Where two processes of the real API listen."""
    chosen = free_port()
    environment = environment_with(http_port=chosen, http_workers=2, request_deadline_seconds=30)
    child: Child = nursery.start(["-m", "assistance", "api"], environment, tmp_path / "api.log")
    eventually(lambda: call(chosen, "GET", "/livez")[0] == 200, PATIENCE_SECONDS)
    yield chosen
    child.send_signal(15)
    child.wait(30)


def call(port: int, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], Any]:
    """Status, headers and JSON; the status is 0 while nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    sent = {"Content-Type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
    try:
        connection.request(method, path, None if body is None else json.dumps(body), sent)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), json.loads(answer.read())
    except OSError:
        return 0, {}, None
    finally:
        connection.close()


def all_at_once(port: int, key: str, descriptions: list[str]) -> list[tuple[str, int, dict[str, str], Any]]:
    """A post for each description with one key, all at the same moment."""
    barrier = threading.Barrier(len(descriptions))

    def post(description: str) -> tuple[str, int, dict[str, str], Any]:
        barrier.wait()
        body = {"topic": "help", "description": description}
        return description, *call(port, "POST", "/assistance", body, Idempotency_Key=key)

    with ThreadPoolExecutor(len(descriptions)) as pool:
        return list(pool.map(post, descriptions))


def messages_of(world: World) -> int:
    """How many messages the channel gets once everything is told."""
    channel = ScriptedChannel(RECEIPT)
    line = Line(world, {"people": channel, "inbox": ScriptedChannel(RECEIPT)})
    line.run_until(lambda: world.count("deliveries", "check_at IS NOT NULL") == 0 and not world.count("outbox"))
    line.stop()
    return len(channel.sent)


def test_fifty_posts_at_once_with_one_key_are_one_request_and_one_message(port: int, world: World) -> None:
    answers = all_at_once(port, "one-body", [FIRE] * CALLERS)
    assert {status for _, status, _, _ in answers} == {202}
    assert len({json.dumps(body, sort_keys=True) for *_, body in answers}) == 1
    replayed = [
        headers.get("Idempotency-Replayed") or headers.get("idempotency-replayed") for _, _, headers, _ in answers
    ]
    assert (replayed.count(None), replayed.count("true")) == (1, CALLERS - 1)
    assert [world.count(table) for table in ("requests", "deliveries", "outbox", "idempotency_keys")] == [1, 1, 1, 1]
    # Of two bodies one wins, whichever it is, and the other is always refused.
    both = all_at_once(port, "two-bodies", [FIRE, WATER] * (CALLERS // 2))
    both += all_at_once(port, "two-bodies", [FIRE, WATER])
    (winner,) = {description for description, status, _, _ in both if status == 202}
    for description, status, _, body in both:
        expected = (202, None) if description == winner else (422, "idempotency-key-reused")
        assert (status, body.get("code")) == expected
    assert len({body["id"] for _, status, _, body in both if status == 202}) == 1
    assert sorted(row.description for row in world.rows("SELECT description FROM requests")) == sorted([FIRE, winner])
    assert messages_of(world) == 2


KEY = IdempotencyKey(value="k-1", fingerprint=b"f" * 32)


def test_a_repeat_is_told_the_first_answer_whatever_became_of_the_request(world: World) -> None:
    told, dead = world.submit(key=KEY), world.submit(key=replace(KEY, value="k-2"))
    world.deliver(told.id)
    world.deliver(dead.id, Rejected(code="no", detail="No.", reason=RejectionReason.CONTENT))
    assert [world.request(first.id).status for first in (told, dead)] == ["delivered", "undeliverable"]
    assert world.submit(key=KEY) == replace(told, replayed=True)
    assert world.submit(key=replace(KEY, value="k-2")) == replace(dead, replayed=True)
    assert world.count("requests") == 2


def test_a_call_that_was_refused_for_want_of_room_uses_no_key_up(
    worlds: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (backlog, quota):
        monkeypatch.setattr(module, "_FRESH_SECONDS", 0.0)
    monkeypatch.setattr(backlog, "_FRESH_TIMES", 0)
    world = worlds(outbox_limit=1, client_open_requests=1)
    submission = Submission(topic="help", description="The printer is on fire.")

    def ask(key: IdempotencyKey | None) -> Accepted:
        return world.intake.submit(submission, key, Deadline.after(20), client="bot")

    first = ask(None)
    with pytest.raises(OutboxFull):
        ask(KEY)
    world.execute("DELETE FROM outbox")
    with pytest.raises(QuotaExceeded):
        ask(KEY)
    world.deliver(first.id)
    accepted = ask(KEY)
    assert not accepted.replayed
    world.execute("DELETE FROM outbox")
    assert ask(KEY) == replace(accepted, replayed=True), "nor does a repeat need room"


@pytest.mark.parametrize("stored", [True, False])
def test_a_commit_whose_answer_was_lost_is_one_request_for_whoever_repeats_it(
    terminal: Terminal, database_url: str, world: World, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    with Proxy(database_url) as proxy:
        monkeypatch.setenv("ASSISTANCE_DATABASE_URL", proxy.url)
        client = build_app(load_settings()).test_client()
        said: dict[str, Any] = {
            "json": {"topic": "help", "description": "The printer is on fire."},
            "headers": {"Idempotency-Key": "lost"},
        }
        proxy.cut_at(b"INSERT INTO requests", forwarded=stored)
        lost = client.post("/assistance", **said)
        assert (lost.status_code, lost.get_json()["code"]) == (503, "commit-unknown")
        assert lost.headers["Retry-After"]
        proxy.cut_at(None)
        eventually(lambda: world.count("requests") == stored)
        first, second = client.post("/assistance", **said), client.post("/assistance", **said)
    assert [first.status_code, second.status_code] == [202, 202]
    assert first.get_json() == second.get_json()
    assert ("Idempotency-Replayed" in first.headers, "Idempotency-Replayed" in second.headers) == (stored, True)
    assert [str(row.id) for row in world.rows("SELECT id FROM requests")] == [first.get_json()["id"]]
    assert messages_of(world) == 1
