"""The client for bots: careful about time and repeats, plain about errors."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from assistance.client import Client, NotAccepted, Refused
from assistance.testing.behaviour import Trouble
from assistance.testing.http_server import FakeHttpServer, Received, Reply

ID = "01a1fc7e-2ccd-784a-8c72-549b47e809ff"
ACCEPTED = {
    "id": ID,
    "ref": "A-7F3K9Q",
    "topic": "sales",
    "status": "accepted",
    "created_at": "2026-03-04T14:02:00.000000Z",
    "links": {"self": f"/assistance/{ID}"},
}


class Api(FakeHttpServer):
    """Accepts everything."""

    def take(self, request: Received) -> Reply:
        super().take(request)
        return Reply(http_status=202, headers={"Content-Type": "application/json"}, body=json.dumps(ACCEPTED).encode())

    @property
    def keys(self) -> list[str]:
        return [request.headers["idempotency-key"] for request in self.received]


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as server:
        yield server


def refusal(http_status: int, **headers: str) -> Reply:
    errors = [{"message": "It is so."}, {"message": "The topic is missing."}]
    problem = {"code": "some-code", "detail": "It is so.", "errors": errors}
    return Reply(http_status=http_status, headers=headers, body=json.dumps(problem).encode(), accept=False)


def test_what_was_accepted_is_told_with_the_place_to_look(api: Api) -> None:
    accepted = Client(api.url).ask("sales", "Grüße \U0001f642")
    assert (accepted.id, accepted.ref, accepted.topic, accepted.status) == (ID, "A-7F3K9Q", "sales", "accepted")
    assert accepted.created_at == datetime(2026, 3, 4, 14, 2, tzinfo=UTC)
    assert accepted.url == f"{api.url}assistance/{ID}"
    (call,) = api.received
    assert (call.method, call.target, call.json) == (
        "POST",
        "/assistance",
        {"topic": "sales", "description": "Grüße \U0001f642"},
    )


def test_each_request_has_a_key_of_its_own_unless_the_bot_gives_one(api: Api) -> None:
    client = Client(api.url)
    client.ask("sales", "one")
    client.ask("sales", "two")
    client.ask("sales", "three", idempotency_key='say "a\\b"')
    assert len(set(api.keys)) == 3
    assert api.keys[2] == r'"say \"a\\b\""'


@pytest.mark.parametrize("trouble", [Trouble.CUT_UNREAD, Trouble.CUT_BY_RST, Trouble.GARBAGE])
def test_a_call_without_an_answer_is_made_again_with_the_same_key(api: Api, trouble: Trouble) -> None:
    api.provoke(trouble)
    assert Client(api.url).ask("sales", "x", idempotency_key="k").id == ID
    assert set(api.keys) == {'"k"'}


@pytest.mark.parametrize("http_status", [408, 429, 500, 502, 503, 504])
def test_an_api_that_is_busy_or_out_of_order_is_asked_again(api: Api, http_status: int) -> None:
    api.script.upcoming.append(refusal(http_status))
    assert Client(api.url).ask("sales", "x").id == ID


def test_retry_after_is_obeyed_and_not_by_everybody_at_the_same_moment(api: Api) -> None:
    api.script.upcoming.append(refusal(503, **{"Retry-After": "1"}))
    began = time.monotonic()
    Client(api.url).ask("sales", "x")
    assert 1.0 <= time.monotonic() - began < 1.9


@pytest.mark.parametrize("http_status", [400, 404, 405, 411, 413, 415, 422])
def test_a_refusal_is_told_at_once_with_every_mistake(api: Api, http_status: int) -> None:
    api.script.upcoming.append(refusal(http_status))
    with pytest.raises(Refused, match=r"^It is so\. The topic is missing\.$") as caught:
        Client(api.url).ask("sales", "x")
    assert (caught.value.http_status, caught.value.code) == (http_status, "some-code")
    assert api.received == []


def test_patience_ends_also_when_the_api_asks_for_more_of_it(api: Api) -> None:
    api.script.upcoming.append(refusal(503, **{"Retry-After": "3600"}))
    began = time.monotonic()
    with pytest.raises(NotAccepted, match="It is so"):
        Client(api.url, patience_seconds=5).ask("sales", "x")
    assert time.monotonic() - began < 4


def test_where_nobody_listens_is_one_sentence_once_patience_is_over() -> None:
    with FakeHttpServer() as gone:
        url = gone.url
    with pytest.raises(NotAccepted, match="gives no answer that could be understood"):
        Client(url, patience_seconds=0.3).look(ID)


def test_an_id_cannot_lead_to_another_path(api: Api) -> None:
    Client(api.url).look("../metrics?x=1#y")
    assert api.received[0].target == "/assistance/..%2Fmetrics%3Fx%3D1%23y"


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://host", "http://", "http://a b", "http://a\nb", ""])
def test_a_url_that_is_none_is_a_mistake_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="is no address"):
        Client(url)


def test_a_key_that_no_header_can_hold_is_a_mistake_at_once(api: Api) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        Client(api.url).ask("sales", "x", idempotency_key="schlüssel")
    assert api.received == []


def test_it_brings_no_server_along() -> None:
    code = "import sys, assistance.client; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert not loaded & {"flask", "sqlalchemy", "psycopg", "pika", "pydantic", "structlog", "slack_sdk", "click"}


def test_the_example_of_the_page_works_as_it_stands(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
    example, *_ = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    exec(example.replace("http://127.0.0.1:8080", api.url), {})
    assert capsys.readouterr().out == f"A-7F3K9Q {api.url}assistance/{ID}\naccepted\n"
