"""The hint on the wire."""

from __future__ import annotations

import json
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistance.domain.errors import UndecodableMessage
from assistance.domain.hint import HINT_TYPE, Hint, decode, encode

HINT = Hint(delivery_id=UUID(int=1), request_id=UUID(int=2), channel="people", series=3, attempt=4)

hints = st.builds(
    Hint,
    delivery_id=st.uuids(),
    request_id=st.uuids(),
    channel=st.from_regex(r"[a-z][a-z0-9-]{0,39}", fullmatch=True),
    series=st.integers(1, 2**31 - 1),
    attempt=st.integers(1, 2**31 - 1),
)


@given(hints)
def test_a_hint_survives_the_wire(hint: Hint) -> None:
    assert decode(encode(hint), HINT_TYPE) == hint


def test_the_same_hint_always_gives_the_same_small_message() -> None:
    assert encode(HINT) == encode(HINT)
    assert len(encode(HINT)) < 200


def changed(**fields: object) -> bytes:
    return json.dumps({**json.loads(encode(HINT)), **fields}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        changed(v=2),
        changed(v=None),
        changed(delivery_id="not-a-uuid"),
        changed(delivery_id=7),
        changed(channel=None),
        changed(series=0),
        changed(series=-1),
        changed(series="1"),
        changed(series=True),
        changed(series=1.0),
        changed(attempt=2**31),
        b'{"v":1,"series":' + b"9" * 5000 + b"}",
    ],
)
def test_a_body_that_is_no_hint_is_refused_and_never_guessed_at(body: bytes) -> None:
    with pytest.raises(UndecodableMessage):
        decode(body, HINT_TYPE)


@pytest.mark.parametrize("message_type", [None, "", "assistance.delivery.requested.v2", "other"])
def test_a_message_of_another_type_is_refused(message_type: str | None) -> None:
    with pytest.raises(UndecodableMessage):
        decode(encode(HINT), message_type)


@given(st.binary(max_size=200))
def test_no_bytes_whatever_raise_anything_but_a_refusal(body: bytes) -> None:
    try:
        decode(body, HINT_TYPE)
    except UndecodableMessage:
        pass
    else:
        raise AssertionError("random bytes were taken for a hint")
