"""What a callback says, how long it is tried, and what an operator's file may say about webhooks."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from assistance.channels.http import Endpoint, parse_endpoint
from assistance.channels.webhook import new_secret, post_signed, signing_key
from assistance.channels.wire import NotConnected, resolve
from assistance.configuration import Configuration, load_configuration
from assistance.deliveries.callbacks import MOST_PAYLOAD_BYTES, payload_of, unless_gone
from assistance.deliveries.settle import Bury, Cancel, Problem, Reason
from assistance.domain.errors import SettingsError, UrlRefused
from assistance.domain.event import EventType
from assistance.domain.outcome import RejectionReason
from assistance.intake.callbacks import callbacks_of
from assistance.resilience.retry_schedule import CALLBACK
from assistance.runtime.clock import Deadline
from tests.builders import eventually
from tests.memory_door import MemoryDoor

FILE = """
[channels.sales-team]
type = "webhook"
url = "http://127.0.0.1:1/"
secret = "env:FAKE_SECRET"

[topics]
sales = "sales-team"
"""
WEBHOOKS = """
[webhooks.everybody]
url = "http://127.0.0.1:9001/callbacks"
secret = "env:FAKE_SECRET"

[webhooks.shop]
url = "env:SHOP_URL"
secret = "env:FAKE_SECRET"
client = "shop-bot"
events = ["assistance.delivered", "assistance.undeliverable"]
"""


def after(**members: Any) -> Any:
    row = {
        "ref": "A-7F3K9Q",
        "at": datetime(2026, 3, 4, 14, 2, tzinfo=UTC),
        "status": "delivered",
        "previous": "accepted",
        "topic": "sales",
        "dedup_key": None,
        "said": {},
    }
    return SimpleNamespace(**row | members)


def read(folder: Path, text: str) -> Configuration:
    path = folder / "assistance.toml"
    path.write_text(text, encoding="utf-8")
    return load_configuration(path)


@pytest.mark.parametrize("said", [{}, {"text": "a" * 19_000}, {"text": "é" * 10_000}, {"text": "a" * 60_000}])
def test_a_callback_is_never_longer_than_20_000_bytes(said: dict[str, str]) -> None:
    payload = payload_of(UUID(int=7), EventType.DELIVERED, 2, after(said=said))
    body = json.dumps(payload, separators=(",", ":")).encode()
    assert len(body) <= MOST_PAYLOAD_BYTES
    assert payload["data"]["metadata"] in (said, None)
    assert (payload["data"]["metadata"] == said) == (len(json.dumps(said)) < 19_500)
    assert payload["timestamp"] == "2026-03-04T14:02:00.000000Z"


@pytest.mark.parametrize("spread", [0.0, 0.5, 0.999])
def test_a_callback_is_tried_ten_times_over_about_three_days(spread: float) -> None:
    elapsed, tries = 0.0, 1
    while CALLBACK.allows(elapsed, delay := CALLBACK.delay_after(tries, spread)):
        elapsed, tries = elapsed + delay, tries + 1
    assert tries == 10
    assert 67 * 3600 < elapsed < 84 * 3600


def test_only_a_server_that_says_gone_ends_a_callback_without_a_dead_letter() -> None:
    gone = Bury(reason=Reason.REJECTED, problem=Problem(kind=RejectionReason.GONE, code="http_410", detail="Gone."))
    other = Bury(reason=Reason.GAVE_UP, problem=Problem(kind="retry_later", code="http_500", detail="Down."))
    assert unless_gone(gone) == Cancel(problem=gone.problem)
    assert unless_gone(other) is other


def test_a_request_keeps_which_webhooks_of_the_operator_are_called(tmp_path: Path) -> None:
    configuration = read(tmp_path, FILE + WEBHOOKS)
    types = ["assistance.delivered", "assistance.undeliverable"]
    assert callbacks_of(configuration, "", None) == {"callbacks": {"everybody": None}}
    assert callbacks_of(configuration, "shop-bot", None) == {"callbacks": {"everybody": None, "shop": types}}
    named = callbacks_of(configuration, "", "http://127.0.0.1:9001/callbacks")
    assert named == {"callback_to": "everybody", "callbacks": {"everybody": None}}
    assert callbacks_of(read(tmp_path, FILE), "", "https://bot.example.com/") == {}
    with pytest.raises(UrlRefused):
        callbacks_of(configuration, "", "http://127.0.0.1:9001/elsewhere")


def test_a_webhook_of_one_client_cannot_be_told_of_another_clients_requests(tmp_path: Path) -> None:
    configuration = read(tmp_path, FILE + WEBHOOKS.replace("env:SHOP_URL", "http://127.0.0.1:9001/shop"))
    theirs = next(webhook.url for webhook in configuration.webhooks.values() if webhook.client == "shop-bot")
    assert callbacks_of(configuration, "shop-bot", theirs)["callback_to"] == "shop"
    for client in ("another-bot", ""):
        with pytest.raises(UrlRefused):
            callbacks_of(configuration, client, theirs)


def test_the_channel_for_callbacks_is_always_there_and_no_topic_can_go_to_it(tmp_path: Path) -> None:
    assert set(read(tmp_path, FILE).channels) == {"sales-team", "callbacks"}
    for text in (FILE.replace('"sales-team"\n', '"callbacks"\n'), FILE + '[channels.callbacks]\ntype = "webhook"\n'):
        with pytest.raises(SettingsError, match="callbacks"):
            read(tmp_path, text)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("", r"\[webhooks\.bot\] secret is missing"),
        ('secret = "env:X"\nclient = "Not a name"', r"\[webhooks\.bot\] client is not the name of a client"),
        ('secret = "env:X"\nevents = []', r"\[webhooks\.bot\] events is not a list"),
        ('secret = "env:X"\nevents = ["assistance.delivred"]', "did you mean 'assistance.delivered'"),
        ('secret = "env:X"\nevents = ["assistance.accepted"]', "names 'assistance.accepted'"),
        ('secret = "env:X"\nsecrets = "env:Y"', r"\[webhooks\.bot\] secrets is not a key; did you mean 'secret'"),
    ],
    ids=range(6),
)
def test_a_mistake_in_a_webhook_is_one_sentence(tmp_path: Path, line: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        read(tmp_path, f'{FILE}[webhooks.bot]\nurl = "http://127.0.0.1:1/"\n{line}\n')


def test_a_wrong_secret_is_named_by_its_table_when_the_channel_is_built(tmp_path: Path) -> None:
    configuration = read(tmp_path, FILE + '[webhooks.bot]\nurl = "http://127.0.0.1:1/"\nsecret = "env:NOT_SET"\n')
    with pytest.raises(SettingsError, match=r"^\[webhooks\.bot\] secret is wrong: .*NOT_SET"):
        configuration.channels["callbacks"].build()


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["/url"]),
        ({"url": 7}, ["/url"]),
        ({"url": "https://bot.example.com/", "events": []}, ["/events"]),
        ({"url": "https://bot.example.com/", "events": ["assistance.accepted"]}, ["/events/0"]),
        ({"url": "https://bot.example.com/", "events": "all"}, ["/events"]),
        ({"url": "https://bot.example.com/", "secret": "x"}, ["/secret"]),
        ([], [""]),
    ],
    ids=range(7),
)
def test_a_registration_that_is_wrong_is_told_what_is_wrong(body: Any, pointers: list[str]) -> None:
    answer = MemoryDoor().app().test_client().post("/webhooks", json=body)
    problem: Any = answer.json
    assert (answer.status_code, problem["code"]) == (422, "validation-failed")
    assert [error["pointer"] for error in problem["errors"]] == pointers


def test_the_receiver_on_the_page_takes_what_is_genuine_and_nothing_else(tmp_path: Path) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "api.md"
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (script,) = [body for body in blocks if "do_POST" in body]
    assert len([line for line in script.splitlines() if line]) <= 20
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "receiver.py").write_text(script.replace("9000", str(port)), encoding="utf-8")
    secret = re.search(r"whsec_[^\"]+", script)
    assert secret is not None
    body = {"type": "assistance.delivered"}
    with subprocess.Popen([sys.executable, tmp_path / "receiver.py"], stdout=subprocess.PIPE) as receiver:
        try:
            endpoint = parse_endpoint(f"http://127.0.0.1:{port}/")
            keys = [signing_key(secret[0]), signing_key(new_secret())]
            statuses = [eventually(partial(_status, endpoint, key, body)) for key in keys]
        finally:
            receiver.kill()
        printed = receiver.stdout.read().decode() if receiver.stdout else ""
    assert statuses == [204, 401]
    assert printed == f"msg_1 {body}\n"


def _status(endpoint: Endpoint, key: bytes, body: dict[str, str]) -> int | None:
    """What a receiver answers; none while it is starting."""
    try:
        return post_signed(endpoint, [key], "msg_1", body, Deadline.after(5), find=resolve).http_status
    except NotConnected:
        return None
