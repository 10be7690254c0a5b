"""`/ingest/<source>` before anything is stored: who is let in, who is not, and that nobody learns why."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client import REGISTRY

from assistance.api.app import create_app
from assistance.bootstrap.sources import mapper_of
from assistance.configuration import SourceSettings
from assistance.configuration.templates import parse_pattern
from assistance.domain.answers import Accepted, IdempotencyKey
from assistance.domain.request import Submission
from assistance.domain.source import Scheme
from assistance.runtime.clock import Deadline, unix_time
from assistance.sources.receive import Sources
from assistance.sources.source import Source
from assistance.storage.database import Database
from tests.builders import configuration
from tests.memory_door import MemoryDoor
from tests.unit.corpora import corpus
from tests.unit.test_source_signatures import signed

KEY = b"k" * 32
#: What no two answers have in common.
VARYING = ("X-Request-Id", "Content-Length")
#: Nobody listens there.
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


def source(name: str, scheme: Scheme, verify_token: bytes | None = None) -> Source:
    settings = SourceSettings(
        name=name,
        scheme=scheme,
        secrets=("env:SECRET",),
        request=parse_pattern({"topic": "help", "description": "{text}"}),
    )
    return Source(settings=settings, keys=(KEY,), verify_token=verify_token)


def submit(
    submission: Submission, idempotency: IdempotencyKey | None, deadline: Deadline, *, client: str, also: Any = None
) -> Accepted:
    raise AssertionError("nothing may be stored")


@pytest.fixture
def client() -> FlaskClient:
    sources = {scheme.value: source(scheme.value, scheme) for scheme in Scheme}
    sources["meta"] = source("meta", Scheme.HUB, b"meatyhamhock")
    doors = Sources(Database(NOWHERE, deadline_seconds=2), sources, mapper_of(configuration()), submit)
    return create_app(replace(MemoryDoor().door(), sources=doors)).test_client()


def refused(name: str) -> float:
    return REGISTRY.get_sample_value("assistance_signature_refused_total", {"source": name}) or 0.0


def without_id(answer: Any) -> Any:
    return {name: value for name, value in answer.get_json().items() if name != "request_id"}


@pytest.mark.parametrize("scheme", Scheme)
def test_every_failed_check_gets_the_same_answer_and_is_counted(client: FlaskClient, scheme: Scheme) -> None:
    now = int(unix_time())
    right = signed(scheme, KEY, b"{}", at=now)
    wrong: list[tuple[Mapping[str, str], bytes]] = [
        ({}, b"{}"),
        (right, b"{ }"),
        (right, b"{"),
        (signed(scheme, b"x" * 32, b"{}", at=now), b"{}"),
        *(({name: value for name, value in right.items() if name != missing}, b"{}") for missing in right),
        *(({**right, name: "\u00e9"}, b"{}") for name in right),
    ]
    if scheme is not Scheme.HUB:
        wrong += [(signed(scheme, KEY, b"{}", at=now - 400), b"{}"), (signed(scheme, KEY, b"{}", at=now + 400), b"{}")]
    before = refused(scheme)
    answers = [client.post(f"/ingest/{scheme}", headers=dict(headers), data=body) for headers, body in wrong]
    assert {answer.status_code for answer in answers} == {401}
    assert all(without_id(answer) == without_id(answers[0]) for answer in answers)
    assert without_id(answers[0])["code"] == "signature-refused"
    assert len({str(sorted(set(answer.headers.keys()))) for answer in answers}) == 1
    assert refused(scheme) - before == len(wrong)


@pytest.mark.parametrize("scheme", Scheme)
def test_a_header_that_comes_twice_proves_nothing(client: FlaskClient, scheme: Scheme) -> None:
    body = b'{"text": "hello"}'
    right = signed(scheme, KEY, body, at=int(unix_time()))
    assert client.post(f"/ingest/{scheme}", headers=right, data=body).status_code == 503, "it came to the database"
    # Signatures of Standard Webhooks are a list in which one is right: two lines are no less.
    for name in right.keys() - {"webhook-signature"}:
        for other in (right[name], "x", ""):
            for twice in ([(name, right[name]), (name, other)], [(name, other), (name, right[name])]):
                headers = [pair for pair in right.items() if pair[0] != name] + twice
                assert client.post(f"/ingest/{scheme}", headers=headers, data=body).status_code == 401, (name, other)


def test_who_proves_nothing_is_not_told_which_sources_there_are(client: FlaskClient) -> None:
    before = refused("")
    for method, path in (("POST", ""), ("GET", ""), ("GET", "?hub.mode=subscribe&hub.challenge=1&hub.verify_token=x")):
        answers = [
            client.open(f"/ingest/{name}{path}", method=method, data=b"{}") for name in ("nobody", "meta", "hub")
        ]
        told = [answer.get_data(as_text=True) for answer in answers]
        assert len({answer.status_code for answer in answers}) == 1
        assert len({re.sub(r'"(request_id|instance)":"[^"]*"', "", text) for text in told}) == 1
        assert len({str([header for header in answer.headers if header[0] not in VARYING]) for answer in answers}) == 1
    large = [client.post(f"/ingest/{name}", data=b"x" * 65_537).status_code for name in ("nobody", "hub")]
    assert large == [413, 413]
    assert refused("") - before == 3
    assert client.post("/ingest/", data=b"{}").status_code == 404


def test_the_size_is_checked_before_anything_else(client: FlaskClient) -> None:
    large = b"x" * 65_537
    answer = client.post("/ingest/hub", headers=signed(Scheme.HUB, KEY, large), data=large)
    assert (answer.status_code, answer.get_json()["code"]) == (413, "body-too-large")
    before = refused("hub")
    cut = client.post("/ingest/hub", data=b"{}", environ_overrides={"CONTENT_LENGTH": "3"})
    assert (cut.status_code, cut.get_json()["code"]) == (400, "body-truncated")
    assert refused("hub") == before


def test_while_the_database_is_away_the_sender_is_asked_to_repeat(client: FlaskClient) -> None:
    for body in (b'{"text": "hello"}', b"no json"):
        answer = client.post("/ingest/hub", headers=signed(Scheme.HUB, KEY, body), data=body)
        assert (answer.status_code, answer.get_json()["code"]) == (503, "storage-unavailable")
        assert int(answer.headers["Retry-After"]) > 0


def test_the_verification_calls_of_meta_are_answered_as_the_file_says(client: FlaskClient) -> None:
    cases = corpus("x-hub-signature-256/vectors.json")["verification_get"]
    before = refused("meta")
    for case in cases:
        answer = client.get("/ingest/meta", query_string=case["query"])
        expected, body = case["expect"]
        assert answer.status_code == expected
        if expected != 400:
            assert (answer.text, answer.mimetype) == (body, "text/plain")
        assert "script" not in answer.text
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert len(cases) == 3
    assert refused("meta") - before == 1


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", 403),
        ("hub.verify_token=meatyhamhock", 400),
        ("hub.mode=subscribe&hub.challenge=1&hub.verify_token=", 403),
        ("hub.mode=subscribe&hub.challenge=1&hub.verify_token=m%C3%A9at", 403),
        ("hub.mode=subscribe&hub.challenge=1&hub.verify_token=meatyhamhock&hub.verify_token=meatyhamhock", 403),
        ("hub.mode=unsubscribe&hub.challenge=1&hub.verify_token=meatyhamhock", 400),
        ("hub.mode=subscribe&hub.challenge=%D9%A1&hub.verify_token=meatyhamhock", 400),
        (f"hub.mode=subscribe&hub.challenge={'1' * 21}&hub.verify_token=meatyhamhock", 400),
        (f"hub.mode=subscribe&hub.challenge={'1' * 20}&hub.verify_token=meatyhamhock", 200),
    ],
    ids=range(9),
)
def test_a_challenge_is_repeated_only_to_who_knows_the_token(client: FlaskClient, query: str, expected: int) -> None:
    assert client.get("/ingest/meta", query_string=query).status_code == expected


def test_a_source_without_a_token_takes_no_verification_call(client: FlaskClient) -> None:
    answer = client.get("/ingest/hub", query_string="hub.mode=subscribe&hub.challenge=1&hub.verify_token=")
    assert answer.status_code == 403


@pytest.mark.parametrize("query", ["hub.verify_token=\xff", "hub.verify_token=%ff", "\xff", "hub.challenge=%00"])
def test_a_verification_call_that_no_url_can_be_made_of_proves_nothing(client: FlaskClient, query: str) -> None:
    assert client.get("/ingest/meta", environ_overrides={"QUERY_STRING": query}).status_code == 403


def test_slack_is_told_its_challenge_only_after_the_signature_was_checked(client: FlaskClient) -> None:
    body = json.dumps({"type": "url_verification", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"})
    headers = signed(Scheme.SLACK, KEY, body.encode(), at=int(unix_time()))
    answer = client.post("/ingest/slack", headers=headers, data=body)
    assert (answer.status_code, answer.mimetype) == (200, "text/plain")
    assert answer.text == json.loads(body)["challenge"]
    assert client.post("/ingest/slack", data=body).status_code == 401
