"""Signatures of sources: everybody's published vectors, and whatever a liar may make of them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import random
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistance.domain.source import Scheme
from assistance.sources.verify import TOLERANCE_SECONDS, is_authentic, key_of
from tests.unit.corpora import corpus

STANDARD, HUB, SLACK = Scheme.STANDARD, Scheme.HUB, Scheme.SLACK
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PREVIOUS = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
NOW = 1_700_000_000
BODY = b'{"test": 2432232314}'


def digest(key: bytes, signed: bytes) -> bytes:
    return hmac.digest(key, signed, hashlib.sha256)


def signed(scheme: Scheme, key: bytes, body: bytes = BODY, *, at: int = NOW) -> dict[str, str]:
    """The headers of an honest sender."""
    if scheme is HUB:
        return {"x-hub-signature-256": "sha256=" + digest(key, body).hex()}
    if scheme is SLACK:
        written = "v0=" + digest(key, f"v0:{at}:".encode() + body).hex()
        return {"x-slack-request-timestamp": str(at), "x-slack-signature": written}
    written = "v1," + base64.b64encode(digest(key, f"msg_1.{at}.".encode() + body)).decode()
    return {"webhook-id": "msg_1", "webhook-timestamp": str(at), "webhook-signature": written}


def key(scheme: Scheme) -> bytes:
    return key_of(scheme, SECRET)


def test_the_vectors_of_standard_webhooks_are_answered_as_the_file_says() -> None:
    vectors = corpus("standard-webhooks/vectors.json")
    for case in vectors["cases"]:
        answer = is_authentic(
            STANDARD, [key_of(STANDARD, case["secret"])], case["headers"], case["body"].encode(), case["now"]
        )
        assert answer is (case["expect"] == "ok"), case["name"]
    assert len(vectors["cases"]) == 37
    for case in vectors["config"]:
        with pytest.raises(ValueError, match="is not whsec_"):
            key_of(STANDARD, case["secret"])


def test_the_vectors_of_slack_are_answered_as_the_file_says() -> None:
    vectors = corpus("slack-signing/vectors.json")
    answers = []
    for case in vectors["cases"]:
        headers = {"x-slack-request-timestamp": case["timestamp"], "x-slack-signature": case["signature"]}
        body = bytes.fromhex(case["body_hex"]) if case["body_hex"] else case["body"].encode()
        present = {name: value for name, value in headers.items() if value is not None}
        answer = is_authentic(SLACK, [key_of(SLACK, vectors["secret"])], present, body, case["now"])
        answers.append(answer)
        if case["expect"] in ("ok", "reject"):
            assert answer is (case["expect"] == "ok"), case["name"]
    assert (len(answers), sum(answers)) == (16, 4)  # the body that is no UTF-8, and the repeat, are authentic too


def test_the_vectors_of_x_hub_signature_are_answered_as_the_file_says() -> None:
    cases = corpus("x-hub-signature-256/vectors.json")["cases"]
    for case in cases:
        headers = {case.get("header_name", "X-Hub-Signature-256").lower(): case["header"]}
        if case["expect"] == "refuse to start":
            with pytest.raises(ValueError, match="is shorter than"):
                key_of(HUB, case["secret"])
        else:
            answer = is_authentic(HUB, [case["secret"].encode()], headers, case["body"].encode(), NOW)
            assert answer is (case["expect"] == "ok"), case["name"]
    assert len(cases) == 10


@pytest.mark.parametrize("scheme", [STANDARD, SLACK])
@pytest.mark.parametrize(("off", "right"), [(-301, False), (-300, True), (0, True), (300, True), (301, False)])
def test_five_minutes_are_forgiven_and_no_second_more(scheme: Scheme, off: int, right: bool) -> None:
    headers = signed(scheme, key(scheme), at=NOW + off)
    assert is_authentic(scheme, [key(scheme)], headers, BODY, NOW) is right
    assert TOLERANCE_SECONDS == 300


@pytest.mark.parametrize("scheme", Scheme)
def test_the_previous_secret_is_good_until_it_is_taken_away(scheme: Scheme) -> None:
    current, previous = key(scheme), key_of(scheme, PREVIOUS)
    headers = signed(scheme, previous)
    assert is_authentic(scheme, [current, previous], headers, BODY, NOW)
    assert not is_authentic(scheme, [current], headers, BODY, NOW)
    assert not is_authentic(scheme, [], headers, BODY, NOW)


@pytest.mark.parametrize("scheme", Scheme)
@pytest.mark.parametrize("secret", ["", "x", "whsec_", "fifteen bytes 15"[:15]])
def test_no_source_begins_with_an_empty_or_short_secret(scheme: Scheme, secret: str) -> None:
    with pytest.raises(ValueError, match=r"^is (shorter|not whsec_)"):
        key_of(scheme, secret)


def test_a_secret_of_standard_webhooks_is_base64_and_nothing_else() -> None:
    with pytest.raises(ValueError, match="is not whsec_") as refused:
        key_of(STANDARD, f"{SECRET[:20]}!!!!{SECRET[20:]}")
    assert SECRET[6:20] not in str(refused.value)


@given(st.binary(max_size=50), st.lists(st.binary(min_size=24, max_size=64), min_size=1, max_size=3))
def test_what_an_honest_sender_signs_is_taken(body: bytes, keys: list[bytes]) -> None:
    for scheme in Scheme:
        assert is_authentic(scheme, keys, signed(scheme, keys[-1], body), body, NOW)


@given(
    st.dictionaries(
        st.sampled_from(sorted({*signed(STANDARD, b""), *signed(HUB, b""), *signed(SLACK, b"")})), st.text()
    )
)
def test_no_header_makes_the_check_fail_in_another_way_than_by_saying_no(headers: Mapping[str, str]) -> None:
    for scheme in Scheme:
        assert is_authentic(scheme, [b"k" * 32], headers, BODY, NOW) is False


def changed(number: random.Random, data: bytes) -> bytes:
    """The same bytes but for one small thing; perhaps the same by chance."""
    at = number.randrange(len(data) + 1)
    piece = bytes(number.randrange(256) for _ in range(number.randrange(3)))
    return data[:at] + piece + data[at + number.randrange(3) :]


def lie(number: random.Random, headers: Mapping[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    """One header or the body changed a little, cut, or exchanged for another message's."""
    lied = dict(headers)
    name = number.choice([*headers, "body"])
    if name == "body":
        return lied, changed(number, body)
    value = headers[name]
    match number.randrange(4):
        case 0:
            lied[name] = value[: number.randrange(len(value))]
        case 1:
            lied[name] = number.choice([value.upper(), value.swapcase(), value + value, " " + value, value[::-1]])
        case 2:
            del lied[name]
        case _:
            lied[name] = changed(number, value.encode()).decode("latin-1")
    return lied, body


def same_claim(scheme: Scheme, honest: Mapping[str, str], lied: Mapping[str, str]) -> bool:
    """A changed header that still says the same: signatures of Standard Webhooks are a list with one right one."""
    if scheme is not STANDARD:
        return False
    signatures = lied.get("webhook-signature", "").split(" ")
    return {**lied, "webhook-signature": honest["webhook-signature"]} == honest and any(
        signature == honest["webhook-signature"] for signature in signatures
    )


def wrongly_accepted(cases: int, seed: int) -> list[Any]:
    number = random.Random(seed)
    found = []
    for _ in range(cases):
        scheme = number.choice(list(Scheme))
        secret = number.randbytes(32)
        body = number.randbytes(number.randrange(40))
        honest = signed(scheme, secret, body)
        headers, told = lie(number, honest, body)
        if (headers, told) == (honest, body) or same_claim(scheme, honest, headers):
            continue
        if is_authentic(scheme, [secret], headers, told, NOW):
            found.append((scheme, honest, body, headers, told))
    return found


def test_a_few_thousand_lies_are_all_seen_through() -> None:
    assert wrongly_accepted(3_000, seed=4) == []


@pytest.mark.long
def test_a_hundred_thousand_lies_are_all_seen_through() -> None:
    assert wrongly_accepted(100_000, seed=5) == []
