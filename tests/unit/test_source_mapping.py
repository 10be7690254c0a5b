"""From a payload to a submission: what the table `request` of a source may say, and what no payload can break."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistance.bootstrap.sources import mapper_of
from assistance.configuration import SourceSettings
from assistance.configuration.templates import parse_path, parse_pattern
from assistance.domain.errors import Unmappable
from assistance.domain.request import Submission
from assistance.domain.source import Scheme
from tests.builders import configuration
from tests.unit.corpora import naughty_strings

MAPPER = mapper_of(configuration({"bugs": ("people",), "help": ("people",)}))
JSON, FORM = "application/json; charset=utf-8", "application/x-www-form-urlencoded"
GITHUB = {
    "action": "opened",
    "issue": {"number": 7, "title": "Login fails", "body": None, "labels": [{"name": "bug"}, {"name": "urgent"}]},
    "repository": {"full_name": "acme/shop", "private": True},
    "sender": {"login": "ada", "id": 42},
}


def source(request: dict[str, Any], **only: Any) -> SourceSettings:
    return SourceSettings(
        name="hooks",
        scheme=Scheme.HUB,
        secrets=("env:SECRET",),
        request=parse_pattern({"topic": "help", **request}),
        only=tuple((parse_path(path), texts) for path, texts in only.items()),
    )


def mapped(request: dict[str, Any], body: Any = GITHUB, content_type: str = JSON) -> Submission:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    submission = MAPPER.submission(source(request), MAPPER.payload(content_type, raw))
    assert submission is not None
    return submission


def test_an_issue_becomes_a_request_with_everything_that_it_says() -> None:
    found = mapped(
        {
            "topic": "bugs",
            "title": "{repository.full_name}#{issue.number}: {issue.title}",
            "description": "{issue.title}\n{issue.body?}\n{{{issue.labels.1.name}}}",
            "priority": "high",
            "customer": {"id": "{sender.id}", "name": "{sender.login}", "email": "{sender.email?}"},
            "bot": {"name": "GitHub", "confidence": 0.5},
            "metadata": {"private": "{repository.private}", "number": 7},
            "dedup_key": "{repository.full_name}/{issue.number}",
        }
    )
    assert (found.topic, found.title) == ("bugs", "acme/shop#7: Login fails")
    assert found.description == "Login fails\n\n{urgent}"
    assert (found.priority, found.dedup_key) == ("high", "acme/shop/7")
    assert found.customer == {"id": "42", "name": "ada"}
    assert found.bot == {"name": "GitHub", "confidence": 0.5}
    assert found.metadata == {"private": "true", "number": 7}


def test_the_forms_of_slack_are_read_like_json() -> None:
    command = b"command=%2Fhelp&text=My+printer+burns&user_name=ada&response_url="
    assert mapped({"description": "{text}"}, command, FORM).description == "My printer burns"
    pressed = b"payload=%7B%22user%22%3A%7B%22name%22%3A%22ada%22%7D%7D"
    assert mapped({"description": "{user.name}"}, pressed, FORM.upper()).description == "ada"
    both = b"payload=%7B%7D&text=a"
    assert mapped({"description": "{text}"}, both, FORM).description == "a"


@pytest.mark.parametrize(
    ("body", "content_type", "sentence"),
    [
        (b"\xff", JSON, "The body is not UTF-8"),
        (b"", JSON, "The body is not JSON"),
        (b"{", "", "The body is not JSON"),
        (b"[1]", JSON, "The body is not a JSON object."),
        (b'"x"', JSON, "The body is not a JSON object."),
        (b'{"a": 1, "a": 2}', JSON, "occurs twice"),
        (b'{"a": NaN}', JSON, "NaN is not JSON"),
        (b"[" * 60_000, JSON, "nested deeper"),
        (b"text=%ff", FORM, "The body is not a form in UTF-8."),
        (b"text=\xff", FORM, "The body is not a form in UTF-8."),
        (b"a=1&a=2", FORM, "A field of the form occurs twice."),
        (b"&".join([b"a=1"] * 300), FORM, "The body is not a form"),
        (b"payload=%7B", FORM, "The body is not JSON"),
        (b"payload=[]", FORM, "The body is not a JSON object."),
    ],
    ids=range(14),
)
def test_what_is_no_object_and_no_form_is_told_in_a_sentence(body: bytes, content_type: str, sentence: str) -> None:
    with pytest.raises(Unmappable, match=r"^[A-Z].*[.]$") as refused:
        mapped({"description": "x"}, body, content_type)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("request_table", "sentence"),
    [
        ({"description": "{issue.text}"}, "There is no issue.text."),
        ({"description": "{issue.body}"}, "There is no issue.body."),
        ({"description": "{issue.title.x}"}, "There is no issue.title.x."),
        ({"description": "{issue.labels.2.name}"}, "There is no issue.labels.2.name."),
        ({"description": "{issue.labels.-1.name}"}, "There is no issue.labels.-1.name."),
        ({"description": "{issue.labels.².name}"}, "There is no issue.labels.².name."),
        ({"description": "{issue.labels.00000.name}"}, "There is no issue.labels.00000.name."),
        ({"description": "{issue.labels}"}, "issue.labels is not a text."),
        ({"description": "{issue?}"}, "issue is not a text."),
        ({"description": "{issue.body?}"}, "description"),
        ({"description": "x", "topic": "{issue.title}"}, "No topic 'login fails' is configured."),
        ({"description": "x" * 4001}, "4001"),
        ({"description": "x", "priority": "{action}"}, "priority"),
    ],
    ids=range(13),
)
def test_what_is_missing_or_wrong_in_a_payload_is_told_in_a_sentence(request_table: Any, sentence: str) -> None:
    with pytest.raises(Unmappable) as refused:
        mapped(request_table)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("only", "wanted"),
    [
        ({"action": ("opened", "reopened")}, True),
        ({"action": ("closed",)}, False),
        ({"issue.number": ("7",), "repository.private": ("true",)}, True),
        ({"issue.number": ("7",), "action": ("closed",)}, False),
        ({"nothing": ("",)}, False),
        ({"issue": ("7",)}, False),
    ],
    ids=range(6),
)
def test_only_what_a_source_wants_becomes_a_request(only: dict[str, tuple[str, ...]], wanted: bool) -> None:
    found = MAPPER.submission(source({"description": "{issue.title}"}, **only), GITHUB)
    assert (found is not None) is wanted


def test_text_arrives_unchanged_and_a_payload_cannot_reach_into_the_template() -> None:
    for text in [*naughty_strings(), "{topic}", "{{", "{issue.title?}"]:
        try:
            found = mapped({"description": "a{text}b"}, {"text": text})
        except Unmappable:
            continue  # what no request may hold, such as control characters
        assert found.description == f"a{text}b".replace("\r\n", "\n").replace("\r", "\n")


@given(st.binary(max_size=300), st.sampled_from([JSON, FORM, "", "text/plain"]))
def test_no_bytes_break_the_reading(body: bytes, content_type: str) -> None:
    try:
        MAPPER.submission(source({"description": "{a.0.b}"}), MAPPER.payload(content_type, body))
    except Unmappable as error:
        assert str(error)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.sampled_from("abc0"), x),
        max_leaves=8,
    )
)
def test_no_payload_breaks_the_mapping(value: Any) -> None:
    try:
        MAPPER.submission(source({"description": "{a.0.b?}{a?}", "title": "{a.b}{c?}"}), {"a": value, "c": value})
    except Unmappable as error:
        assert str(error)
