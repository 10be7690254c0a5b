"""What `POST /assistance` promises about bodies: which are taken, and what the others are told."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from werkzeug.test import TestResponse

from assistance.api.schema import SubmissionBody
from assistance.domain.errors import UnknownTopic
from tests.memory_door import MemoryDoor

GOOD = {"topic": "sales", "description": "Customer wants a quote for 40 seats"}


@pytest.fixture
def door() -> MemoryDoor:
    return MemoryDoor()


def post(
    door: MemoryDoor,
    body: Any,
    content_type: str | None = "application/json",
    *,
    terminated: bool = True,
    stream: Any = None,
    **environ: str,
) -> TestResponse:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    # The length is given by hand, because the test client leaves it out for an empty body.
    overrides: dict[str, Any] = {"CONTENT_LENGTH": str(len(data)), "wsgi.input_terminated": terminated, **environ}
    if stream:
        overrides["wsgi.input"] = stream
    return (
        door.app()
        .test_client()
        .post(
            "/assistance",
            input_stream=io.BytesIO(data),
            content_type=content_type,
            environ_overrides=overrides,
        )
    )


def refusal(door: MemoryDoor, response: TestResponse) -> tuple[int, str]:
    """Status and code of a problem document, after checking that it is one and that nothing was stored."""
    problem = response.get_json()
    assert response.content_type == "application/problem+json"
    assert problem["status"] == response.status_code
    assert problem["type"] == f"/problems/{problem['code']}"
    assert problem["request_id"] == response.headers["X-Request-Id"]
    assert door.submitted == []
    return response.status_code, problem["code"]


def pointers(response: TestResponse) -> dict[str, str]:
    return {error["pointer"]: error["code"] for error in response.get_json()["errors"]}


def test_a_good_request_is_answered_202_with_where_to_find_it(door: MemoryDoor) -> None:
    response = post(door, GOOD)
    body = response.get_json()
    assert response.status_code == 202
    assert response.headers["Location"] == f"/assistance/{body['id']}" == body["links"]["self"]
    assert set(body) == {"id", "ref", "topic", "status", "created_at", "links"}
    assert (body["topic"], body["status"]) == ("sales", "accepted")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", body["created_at"])
    assert int(response.headers["Retry-After"]) >= 1
    assert [s.description for s in door.submitted] == [GOOD["description"]]


def test_the_topic_is_trimmed_and_case_folded(door: MemoryDoor) -> None:
    assert post(door, {"topic": " \tSALES\n", "description": "x"}).get_json()["topic"] == "sales"
    assert post(door, {"topic": "STRASSE", "description": "x"}).status_code == 202


def test_line_ends_become_one_character_and_other_layout_is_kept(door: MemoryDoor) -> None:
    assert post(door, {"topic": "sales", "description": "  a\r\nb\rc\nd\te "}).status_code == 202
    assert door.submitted[0].description == "  a\nb\nc\nd\te "


@pytest.mark.parametrize("escaped", [True, False])
@pytest.mark.parametrize("text", ["x", "é" * 4000, "\U0001f600" * 4000, "\u2028", "\ufffe\uffff", "'; DROP TABLE x;--"])
def test_any_text_of_up_to_4000_characters_is_passed_on_unchanged(door: MemoryDoor, text: str, escaped: bool) -> None:
    body = json.dumps({"topic": "sales", "description": text + "."[: len(text) < 4000]}, ensure_ascii=escaped)
    assert post(door, body.encode()).status_code == 202
    assert door.submitted[0].description == text + "."[: len(text) < 4000]


@pytest.mark.parametrize("value", [None, [], {}, 1, 1.5, True, ""])
@pytest.mark.parametrize("member", ["topic", "description"])
def test_a_member_of_the_wrong_type_is_named_by_its_pointer(door: MemoryDoor, member: str, value: Any) -> None:
    response = post(door, {**GOOD, member: value})
    assert refusal(door, response) == (422, "validation-failed")
    assert pointers(response) == {f"/{member}": "empty" if value == "" else "not-a-string"}


@pytest.mark.parametrize(
    ("member", "text", "code"),
    [
        ("description", "a\x00b", "character"),
        ("description", "\ud800", "character"),
        ("description", "a\udfffb", "character"),
        ("description", "bell\x07", "character"),
        ("description", "\x7f", "character"),
        ("description", "next line\x85", "character"),
        ("description", "escape\x1b[0m", "character"),
        ("description", "  \n\t  ", "empty"),
        ("description", "\u3000\u00a0", "empty"),
        ("description", "x" * 4001, "too-long"),
        ("topic", "sa\nles", "character"),
        ("topic", "sales\x1f", "character"),
        ("topic", "\ud83d", "character"),
        ("topic", "   ", "empty"),
        ("topic", "x" * 65, "too-long"),
    ],
)
def test_text_that_cannot_be_kept_or_shown_is_refused(door: MemoryDoor, member: str, text: str, code: str) -> None:
    response = post(door, {**GOOD, member: text})
    assert refusal(door, response) == (422, "validation-failed")
    assert pointers(response) == {f"/{member}": code}


@pytest.mark.parametrize("body", [None, [], "x", 1, 1.5, True, [GOOD]])
def test_json_that_is_no_object_means_nothing_valid(door: MemoryDoor, body: Any) -> None:
    response = post(door, body)
    assert refusal(door, response) == (422, "validation-failed")
    assert pointers(response) == {"": "not-an-object"}


def test_every_mistake_is_reported_at_once_the_unknown_topic_among_them(door: MemoryDoor) -> None:
    response = post(door, {"topic": "Sails", "description": "", "descripton": "x", "a/b~c": 1})
    assert refusal(door, response) == (422, "validation-failed")
    assert pointers(response) == {
        "/topic": "unknown-topic",
        "/description": "empty",
        "/descripton": "unknown-member",
        "/a~1b~0c": "unknown-member",
    }
    messages = " ".join(error["message"] for error in response.get_json()["errors"])
    assert "Did you mean 'sales'?" in messages
    assert "Did you mean 'description'?" in messages
    assert response.get_json()["allowed"] == ["pricing", "sales", "strasse"]


def test_both_missing_members_are_named(door: MemoryDoor) -> None:
    assert pointers(post(door, {})) == {"/topic": "required", "/description": "required"}


def test_an_unknown_topic_alone_has_its_own_code_and_lists_the_known_ones(door: MemoryDoor) -> None:
    response = post(door, {"topic": "sails", "description": "x"})
    assert refusal(door, response) == (422, "unknown-topic")
    assert response.get_json()["allowed"] == ["pricing", "sales", "strasse"]
    assert "Did you mean 'sales'?" in response.get_json()["detail"]


def test_a_topic_that_left_the_configuration_meanwhile_is_refused_the_same_way(door: MemoryDoor) -> None:
    door.failure = UnknownTopic("sales", ("pricing",))
    response = post(door, GOOD)
    assert refusal(door, response) == (422, "unknown-topic")
    assert response.get_json()["allowed"] == ["pricing"]


@pytest.mark.parametrize("name", ["id", "status", "bot_id", "__proto__", "Topic", "", "x" * 65, "a\nb", "\ud800", "é"])
def test_unknown_members_are_refused(door: MemoryDoor, name: str) -> None:
    response = post(door, {**GOOD, name: "other"})
    assert refusal(door, response) == (422, "validation-failed")
    assert list(pointers(response).values()) == ["unknown-member"]
    assert max(len(part) for part in response.get_json()["detail"].split("'")) <= 64
    response.get_data().decode("ascii")


def test_thousands_of_unknown_members_do_not_make_a_huge_answer(door: MemoryDoor) -> None:
    response = post(door, {f"m{number}": 0 for number in range(5000)})
    assert refusal(door, response) == (422, "validation-failed")
    assert len(response.get_data()) < 8000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"{",
        b'{"topic":"sales","description":"x"}}',
        b'{"topic":"sales","topic":"pricing","description":"x"}',
        b'{"a":{"b":1,"b":2}}',
        b'{"topic":"sales","description":NaN}',
        b"[Infinity]",
        b"-Infinity",
        b"1" * 5000,
        b"[1" + b"0" * 100 + b"]",
        b"1e400",
        b"1." + b"1" * 5000,
        b"[" * 65_000,
        b"[" * 17 + b"]" * 17,
        b'{"a":' * 17 + b"1" + b"}" * 17,
        b'"\\',
        b'"' + b'\\"' * 32_000,
        b"\xef\xbb\xbf{}",
        b'{"topic":"\xe9"}',
        b'{"topic":"\xed\xa0\x80"}',
        '{"topic":"sales","description":"x"}'.encode("utf-16"),
        '{"topic":"sales","description":"x"}'.encode("utf-32-le"),
        b"'x'",
        b"{}\x00",
    ],
)
def test_what_is_not_strict_json_in_utf8_is_malformed(door: MemoryDoor, body: bytes) -> None:
    assert refusal(door, post(door, body)) == (400, "malformed-json")


def test_brackets_inside_strings_do_not_count_as_nesting(door: MemoryDoor) -> None:
    text = 'a "[[[[[[[[[[[[[[[[[[[[{{{{{{{{{{{{{{{{{{{{{ \\ " b'
    assert post(door, {"topic": "sales", "description": text}).status_code == 202
    assert refusal(MemoryDoor(), post(MemoryDoor(), b"[" * 16 + b"]" * 16)) == (422, "validation-failed")


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        'application/json; charset="latin-1"',
        "application/jsonx",
        "application/problem+json",
        "application/json, text/plain",
        "é/ü; =;;",
    ],
)
def test_another_media_type_is_refused(door: MemoryDoor, content_type: str | None) -> None:
    response = post(door, GOOD, content_type, CONTENT_TYPE=content_type or "")
    assert refusal(door, response) == (415, "unsupported-media-type")


@pytest.mark.parametrize("content_type", ["application/json; charset=UTF-8", "Application/JSON", "application/json;"])
def test_json_may_say_that_it_is_utf8(door: MemoryDoor, content_type: str) -> None:
    assert post(door, GOOD, content_type).status_code == 202


def test_a_compressed_body_is_refused(door: MemoryDoor) -> None:
    response = post(door, GOOD, HTTP_CONTENT_ENCODING="gzip")
    assert refusal(door, response) == (415, "unsupported-media-type")


@pytest.mark.parametrize("length", ["", "x", "-1", "+2", "1.0", "²", " 2", "0x10"])
def test_a_body_without_a_usable_length_is_refused(door: MemoryDoor, length: str) -> None:
    assert refusal(door, post(door, GOOD, CONTENT_LENGTH=length)) == (411, "length-required")


def test_chunked_transfer_is_refused_even_beside_a_length(door: MemoryDoor) -> None:
    assert refusal(door, post(door, GOOD, HTTP_TRANSFER_ENCODING="chunked")) == (411, "length-required")


@pytest.mark.parametrize("terminated", [True, False])
def test_a_body_that_ends_early_is_refused_although_it_is_whole_json(door: MemoryDoor, terminated: bool) -> None:
    response = post(door, GOOD, CONTENT_LENGTH="1000", terminated=terminated)
    assert refusal(door, response) == (400, "body-truncated")


class Broken(io.RawIOBase):
    """A connection that is reset while the body is read."""

    def read(self, size: int = -1) -> bytes:
        raise ConnectionResetError


def test_a_caller_who_hangs_up_in_the_body_leaves_no_request(door: MemoryDoor) -> None:
    response = post(door, GOOD, stream=Broken())
    assert refusal(door, response) == (400, "body-truncated")


@pytest.mark.parametrize("length", ["65537", "1000000000000", "9" * 5000, "00065537"])
def test_a_body_that_is_too_large_is_refused_before_it_is_read(door: MemoryDoor, length: str) -> None:
    response = post(door, GOOD, CONTENT_LENGTH=length, stream=Broken())
    assert refusal(door, response) == (413, "body-too-large")


def test_a_body_of_exactly_64_kib_is_read(door: MemoryDoor) -> None:
    padded = json.dumps(GOOD).encode().ljust(64 * 1024)
    assert post(door, padded).status_code == 202


def test_the_schema_can_describe_itself_for_openapi() -> None:
    schema = SubmissionBody.model_json_schema()
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["topic", "description"]
    assert schema["properties"]["description"]["maxLength"] == 4000
