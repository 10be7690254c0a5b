"""Signed sources over a real database: one message is one request, and none is lost that was authentic."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from assistance.bootstrap.operating import jobs_of
from assistance.bootstrap.parts import configuration_of
from assistance.bootstrap.sources import letter_replay
from assistance.domain.errors import NotReplayable
from assistance.domain.source import Scheme
from assistance.runtime.clock import unix_time
from assistance.settings import load_settings
from assistance.sources.verify import key_of
from assistance.wsgi import build_app
from tests.builders import World
from tests.integration.operating_tools import add_dead, audited, begin, finish
from tests.terminal import FILE, Terminal
from tests.unit.test_source_signatures import SECRET, signed

PAGE = Path(__file__).resolve().parents[2] / "docs" / "sources.md"
SOURCES = """
[sources.desk]
scheme = "standard"
secret = "env:DESK_SECRET"
only.wanted = true

[sources.desk.request]
topic = "{topic}"
description = "{text}"
customer = {id = "{customer.id?}"}

[sources.shop]
scheme = "hub"
secret = "env:DESK_SECRET"
message_id = "X-Delivery"

[sources.shop.request]
topic = "help"
description = "{text}"

[sources.chat]
scheme = "slack"
secret = "env:DESK_SECRET"

[sources.chat.request]
topic = "help"
description = "{text}"
"""


class Sender:
    """Somebody else's service, and the installation that it sends to."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "assistance.toml"
        self.configure(SOURCES)

    def configure(self, sources: str) -> None:
        """Start the API anew with these sources."""
        self._file.write_text(FILE + sources, encoding="utf-8")
        self.app = build_app(load_settings())

    @property
    def client(self) -> FlaskClient:
        return self.app.test_client()

    def send(self, source: str, body: bytes, scheme: Scheme, **headers: str) -> TestResponse:
        given = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        right = signed(scheme, key_of(scheme, SECRET), body, at=int(unix_time()))
        return self.client.post(f"/ingest/{source}", data=body, headers=right | given)

    def desk(self, body: Any, **headers: str) -> TestResponse:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.send("desk", raw, Scheme.STANDARD, **headers)


@pytest.fixture
def sender(terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sender:
    monkeypatch.setenv("DESK_SECRET", SECRET)
    monkeypatch.setenv("ASSISTANCE_REQUEST_DEADLINE_SECONDS", "30")
    return Sender(tmp_path)


ASKED = {"topic": "Help", "text": "The till <b>burns</b>.", "wanted": True, "customer": {"id": 42}}


def test_a_signed_message_becomes_one_request_however_often_it_comes(sender: Sender, world: World) -> None:
    first = sender.desk(ASKED)
    sender.configure(SOURCES)
    again = sender.desk(ASKED)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.data == again.data
    told = first.get_json()
    (request,) = world.rows("SELECT * FROM requests")
    assert told == {
        "status": "accepted",
        "id": str(request.id),
        "ref": request.ref,
        "links": {"self": f"/assistance/{request.id}"},
    }
    assert (request.client, request.topic, request.customer) == ("source:desk", "help", {"id": "42"})
    assert request.description == "The till <b>burns</b>."
    assert (world.count("deliveries"), world.count("outbox"), world.count("source_messages")) == (1, 1, 1)
    other = sender.desk(ASKED, webhook_id="msg_2")
    assert other.status_code == 401


def test_fifty_repeats_at_once_are_one_request(sender: Sender, world: World) -> None:
    start = threading.Barrier(10)

    def send(number: int) -> bytes:
        if number < 10:
            start.wait(30)
        return bytes(sender.desk(ASKED).data)

    with ThreadPoolExecutor(10) as pool:
        answers = set(pool.map(send, range(50)))
    assert len(answers) == 1
    assert b'"accepted"' in answers.pop()
    assert (world.count("requests"), world.count("deliveries"), world.count("source_messages")) == (1, 1, 1)


def test_sources_without_an_id_of_their_own_know_a_message_by_its_body_or_by_a_header(
    sender: Sender, world: World
) -> None:
    body = b'{"text": "Stock is low."}'
    assert sender.send("shop", body, Scheme.HUB).data == sender.send("shop", body, Scheme.HUB).data
    named = sender.send("shop", body, Scheme.HUB, X_Delivery="1")
    assert named.data == sender.send("shop", body, Scheme.HUB, X_Delivery="1").data
    sender.send("shop", body, Scheme.HUB, X_Delivery="2" * 5000)
    assert world.count("requests", "client = 'source:shop'") == 3
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    typed = sender.send("chat", b"command=%2Fhelp&text=It+burns&trigger_id=1", Scheme.SLACK, **form)
    assert typed.status_code == 200
    assert typed.get_json()["text"] == f"Passed on as {typed.get_json()['ref']}."
    assert typed.data == sender.send("chat", b"command=%2Fhelp&text=It+burns&trigger_id=1", Scheme.SLACK, **form).data
    assert world.count("requests", "client = 'source:chat' AND description = 'It burns'") == 1


def test_what_a_source_does_not_want_leaves_nothing_behind(sender: Sender, world: World) -> None:
    answer = sender.desk({**ASKED, "wanted": False})
    assert (answer.status_code, answer.get_json()) == (202, {"status": "ignored"})
    assert [world.count(table) for table in ("requests", "dead_letters", "source_messages")] == [0, 0, 0]


def test_what_cannot_be_mapped_is_kept_and_becomes_a_request_once_the_mapping_is_mended(
    sender: Sender, world: World, terminal: Terminal
) -> None:
    body = json.dumps({**ASKED, "text": None, "body": "The till burns."}).encode()
    secret = {"User_Agent": "till/1", "Authorization": "Bearer hunter2", "Cookie": "hunter2"}
    kept = sender.desk(body, **secret)
    assert (kept.status_code, kept.get_json()) == (202, {"status": "unmappable"})
    assert sender.desk(body).data == kept.data
    (letter,) = world.letters()
    assert (letter.source, letter.reason, letter.channel, letter.message_id) == ("source", "unmappable", None, "msg_1")
    assert (letter.error, letter.body) == ("[sources.desk] There is no text.", body)
    assert letter.headers == {"source": "desk", "content-type": "application/json", "user-agent": "till/1"}

    code, _ = terminal.run("dead-letters", "replay", "--reason", "unmappable")
    assert (code, "still cannot be mapped: There is no text." in terminal.err) == (1, True)
    assert world.count("dead_letters", "resolved_at IS NULL") == 1

    sender.configure(SOURCES.replace("{text}", "{body}", 1))
    code, out = terminal.run("dead-letters", "replay", "--all")
    assert (code, "1 dead letters replayed." in out) == (0, True)
    (request,) = world.rows("SELECT * FROM requests")
    assert (request.client, request.description, request.status) == ("source:desk", "The till burns.", "accepted")
    assert world.letters()[0].resolution == "replayed"
    assert sender.desk(body).get_json()["id"] == str(request.id)
    assert terminal.run("dead-letters", "replay", str(letter.id))[0] == 1
    assert "is resolved already" in terminal.err
    assert world.count("requests") == 1


@pytest.mark.parametrize(
    "body",
    [b" ", b"\xff\xfe", b"no json", b"[]", b'{"wanted": true, "topic": "nobody", "text": "x"}', b'{"wanted": true}'],
    ids=range(6),
)
def test_no_authentic_message_is_lost_whatever_it_holds(sender: Sender, world: World, body: bytes) -> None:
    assert sender.desk(body).get_json() == {"status": "unmappable"}
    assert [letter.body for letter in world.letters()] == [body]


def test_two_operators_who_replay_one_letter_make_one_request(
    sender: Sender, world: World, terminal: Terminal, tmp_path: Path
) -> None:
    sender.desk({**ASKED, "text": None, "body": "x"})
    (letter,) = world.letters()
    sender.configure(SOURCES.replace("{text}", "{body}", 1))
    settings = load_settings()
    replays = [letter_replay(settings, configuration_of(settings), world.database) for _ in range(4)]

    def replay(number: int) -> bool:
        try:
            replays[number].replay(letter.id, actor="me")
        except NotReplayable:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(replay, range(4))) == [False, False, False, True]
    assert world.count("requests") == 1


def test_an_operation_maps_kept_messages_again_between_the_letters_of_deliveries(sender: Sender, world: World) -> None:
    add_dead(world, 2)
    sender.desk({**ASKED, "text": None, "body": "x"})
    world.execute("UPDATE dead_letters SET created_at = now() - interval '1500 ms' WHERE source = 'source'")
    sender.configure(SOURCES.replace("{text}", "{body}", 1))
    settings = load_settings()
    worker = jobs_of(settings, lambda: configuration_of(settings), world.database)
    end = finish(world, begin(world, shown=3), worker)
    assert (end.state, end.done, end.refused) == ("done", 3, 0)
    assert world.count("requests", "client = 'source:desk'") == 1
    assert world.count("dead_letters", "resolution = 'replayed' AND resolved_by = 'ann'") == 3
    assert [line.operation_id for line in audited(world, "replay")] == [end.id] * 3


def test_a_letter_whose_source_is_gone_or_wants_it_no_more_stays(
    sender: Sender, world: World, terminal: Terminal
) -> None:
    sender.desk({**ASKED, "text": None})
    (letter,) = world.letters()
    for sources, sentence in (
        ("", "is of source 'desk', which is not configured"),
        (SOURCES.replace("only.wanted = true", "only.wanted = false"), "is of a kind that [sources.desk] ignores"),
    ):
        sender.configure(sources)
        assert terminal.run("dead-letters", "replay", str(letter.id))[0] == 1
        assert sentence in terminal.err
    # A repeat that came after its first traces were purged is a request; the old letter must not become a second one.
    sender.configure(SOURCES.replace("{text}", "{topic}", 1))
    world.execute("DELETE FROM source_messages")
    assert sender.desk({**ASKED, "text": None}).get_json()["status"] == "accepted"
    assert terminal.run("dead-letters", "replay", str(letter.id))[0] == 1
    assert "is a request already" in terminal.err
    assert terminal.run("dead-letters", "discard", str(letter.id))[0] == 0
    assert world.count("requests") == 1


@pytest.fixture
def listening(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    servers: list[Any] = []

    def listen() -> str:
        server = make_server("127.0.0.1", 0, sender.app, threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"127.0.0.1:{server.server_port}"

    yield listen
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("openssl")), reason="curl or openssl is not installed")
def test_the_example_on_the_page_works_as_it_stands(
    sender: Sender, world: World, listening: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = PAGE.read_text(encoding="utf-8")
    (script,) = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    sources = "".join(re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    secret = re.search(r"^export GITHUB_SECRET='(.*)'$", script, re.MULTILINE)
    assert secret
    monkeypatch.setenv("GITHUB_SECRET", secret[1])
    monkeypatch.setenv("SLACK_SIGNING_SECRET", "8f742231b10e8888abcd99yyyzzz85a5")
    sender.configure('bugs = "people"\n' + sources)
    script = script.replace("127.0.0.1:8080", listening())
    for _ in range(2):
        done = subprocess.run(
            ["bash", "-c", script.replace("curl -i", "curl -s --noproxy '*'")],
            capture_output=True,
            check=True,
            timeout=60,
            env=dict(os.environ),
        )
        assert json.loads(done.stdout)["status"] == "accepted", done
    (request,) = world.rows("SELECT * FROM requests")
    assert (request.topic, request.title) == ("bugs", "acme/shop#7: Login fails")
    assert request.description == "Login fails\n\nSince this morning."
    assert (request.customer, request.metadata) == ({"id": "42", "name": "ada"}, {})
