"""The Idempotency-Key header: which keys are keys, and what a repeat is told."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
from werkzeug.test import TestResponse

from assistance.api.idempotency import HEADER_SCHEMA, key_for, parse_key
from assistance.api.problems import Problem
from tests.memory_door import CORPORA, MemoryDoor

GOOD = {"topic": "sales", "description": "x"}


def post(door: MemoryDoor, key: str, body: Any = GOOD) -> TestResponse:
    return door.app().test_client().post("/assistance", json=body, environ_overrides={"HTTP_IDEMPOTENCY_KEY": key})


def is_key(header: str) -> bool:
    try:
        parse_key(header)
    except Problem:
        return False
    return True


def test_the_description_allows_exactly_the_headers_that_are_keys() -> None:
    described = jsonschema_rs.Draft202012Validator(HEADER_SCHEMA)
    characters = [chr(code) for code in range(33, 127)] + ["é", '"a', "\\"]
    headers = ["", *characters, *(one + other for one in characters for other in characters)]
    headers += [f'"{header}"' for header in headers]
    long = [piece * length for piece in ("a", '\\"') for length in (254, 255, 256)]
    headers += [*long, *(f'"{header}"' for header in long)]
    assert [header for header in headers if described.is_valid(header) is not is_key(header)] == []
    assert sum(map(is_key, headers)) > 10_000


def test_a_repeat_with_the_same_key_gets_the_first_answer_and_says_so() -> None:
    door = MemoryDoor()
    first, second = post(door, '"k"'), post(door, '"k"')
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.get_json() == second.get_json()
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert len(door.submitted) == 1


def test_quotes_around_a_key_make_no_difference() -> None:
    door = MemoryDoor()
    post(door, '"abc"')
    assert post(door, "abc").headers["Idempotency-Replayed"] == "true"


def test_the_same_key_with_another_body_is_refused() -> None:
    door = MemoryDoor()
    post(door, "k")
    response = post(door, "k", {**GOOD, "description": "y"})
    assert (response.status_code, response.get_json()["code"]) == (422, "idempotency-key-reused")
    assert len(door.submitted) == 1


def test_the_order_of_members_and_white_space_make_no_other_body() -> None:
    door = MemoryDoor()
    first = post(door, "k")
    raw = b' {"description" : "x",\n "topic":"s\\u0061les"} '
    environ = {"HTTP_IDEMPOTENCY_KEY": "k"}
    second = (
        door.app()
        .test_client()
        .post("/assistance", data=raw, content_type="application/json", environ_overrides=environ)
    )
    assert second.get_json() == first.get_json()


def test_a_call_that_was_refused_does_not_use_the_key_up() -> None:
    door = MemoryDoor()
    assert post(door, "k", {"topic": "sales"}).status_code == 422
    assert post(door, "k").status_code == 202


def test_the_fingerprint_covers_method_path_and_body() -> None:
    calls = [
        ("POST", "/assistance", GOOD),
        ("PUT", "/assistance", GOOD),
        ("POST", "/other", GOOD),
        ("POST", "/assistance", {**GOOD, "topic": "pricing"}),
        ("POST", "/assistance", {"topic": "x", "description": "sales"}),
    ]
    fingerprints = [key_for("k", *call).fingerprint for call in calls]
    assert len(set(fingerprints)) == len(calls)
    assert {len(fingerprint) for fingerprint in fingerprints} == {32}


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ('"abc"', "abc"),
        ("abc", "abc"),
        (' "abc" ', "abc"),
        ('"a b"', "a b"),
        (r'"say \"hi\" \\ bye"', r'say "hi" \ bye'),
        ("8e03978e-40d5-43e8-bc93-6894a57f9324", "8e03978e-40d5-43e8-bc93-6894a57f9324"),
        ("42", "42"),
        ('"a", "b"', None),
        ("a,b", None),
        ("a" * 255, "a" * 255),
        ('"' + "a" * 255 + '"', "a" * 255),
        ('"\'; DROP TABLE idempotency_keys;--"', "'; DROP TABLE idempotency_keys;--"),
        ('"../../etc"', "../../etc"),
        ("", None),
        ('""', None),
        ("a" * 256, None),
        ('"' + "a" * 256 + '"', None),
        ('"abc', None),
        ('abc"', None),
        ("'abc'", None),
        ('"a";p=1', None),
        ("a;p=1", None),
        ('"é"', None),
        ("é", None),
        ('"a\x00"', None),
        ('"a\n"', None),
        ("a\n", None),
        (":YWJj:", None),
        ("?1", None),
        ("a b", None),
        ('"\\x"', None),
    ],
)
def test_a_key_is_one_quoted_string_or_one_bare_token(header: str, key: str | None) -> None:
    door = MemoryDoor()
    response = post(door, header)
    if key is None:
        assert (response.status_code, response.get_json()["code"]) == (400, "idempotency-key-invalid")
        assert door.submitted == []
    else:
        assert response.status_code == 202
        assert list(door.keys) == [key]


def test_two_header_lines_are_refused() -> None:
    door = MemoryDoor()
    headers = [("Idempotency-Key", '"a"'), ("Idempotency-Key", '"b"')]
    response = door.app().test_client().post("/assistance", json=GOOD, headers=headers)
    assert (response.status_code, response.get_json()["code"]) == (400, "idempotency-key-invalid")
    assert door.submitted == []


@pytest.mark.skipif(not CORPORA.exists(), reason="the corpora are not here")
@pytest.mark.parametrize("name", ["string", "string-generated", "token"])
def test_structured_field_vectors_are_read_as_they_say(name: str) -> None:
    vectors = json.loads((CORPORA / "structured-fields" / f"{name}.json").read_text(encoding="utf-8"))
    wrong = []
    for vector in vectors:
        header = ", ".join(vector["raw"])
        if vector.get("must_fail"):
            if is_key(header):
                wrong.append(vector["name"])
            continue
        item = vector["expected"][0] if vector["header_type"] == "item" else vector["expected"][0][0]
        value = item if isinstance(item, str) else item["value"]
        # A vector may be a good string and still no key: empty, or longer than keys may be.
        if not 1 <= len(value) <= 255 or vector.get("can_fail"):
            continue
        if not is_key(header) or parse_key(header) != value:
            wrong.append(vector["name"])
    assert wrong == []
    assert len(vectors) >= 6


@pytest.mark.skipif(not CORPORA.exists(), reason="the corpora are not here")
def test_the_keys_of_the_idempotency_draft_are_keys() -> None:
    examples = json.loads((CORPORA / "idempotency-key" / "examples.json").read_text(encoding="utf-8"))
    assert examples["valid_keys"]
    assert [key for key in examples["valid_keys"] if parse_key(key) != key.strip('"')] == []
