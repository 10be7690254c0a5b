"""Signatures as Standard Webhooks asks, checked against the official library and its vectors."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from standardwebhooks import Webhook

from assistance.channels.webhook import WebhookChannel, WebhookOptions, signature, signing_key
from assistance.testing.channel_contract import example_view
from tests.unit.corpora import corpus, naughty_strings

_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def whsec(size: int) -> str:
    return "whsec_" + base64.b64encode(b"k" * size).decode()


@given(st.binary(min_size=24, max_size=64), st.uuids(), st.integers(0, 2**33), st.text())
def test_the_official_library_computes_the_same_signature(key: bytes, number: object, at: int, text: str) -> None:
    body = json.dumps({"text": text})
    webhook_id = f"msg_{number}"
    theirs = Webhook(key).sign(webhook_id, datetime.fromtimestamp(at, UTC), body)
    assert signature(key, webhook_id, at, body.encode()) == theirs


def test_the_published_vectors_are_reproduced() -> None:
    checked = 0
    for case in corpus("standard-webhooks/vectors.json")["cases"]:
        if case["name"] in ("valid", "vector 2 (Rust)"):
            headers = case["headers"]
            made = signature(
                signing_key(case["secret"]),
                headers["webhook-id"],
                int(headers["webhook-timestamp"]),
                case["body"].encode(),
            )
            assert made == headers["webhook-signature"]
            checked += 1
    assert checked == 2


@pytest.mark.parametrize("size", [24, 25, 32, 64])
def test_secrets_of_the_right_size_are_taken(size: int) -> None:
    assert signing_key(whsec(size)) == b"k" * size


@pytest.mark.parametrize(
    "secret",
    ["", "whsec_", "whsec_!!!!", "whsec_AA==", whsec(23), whsec(65), whsec(32)[6:], whsec(32) + "é", "whsec_ä"],
)
def test_other_secrets_are_refused_without_being_quoted(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="a signing secret is") as refused:
        signing_key(secret)
    assert not secret[6:] or secret[6:] not in str(refused.value)


def test_every_secret_that_the_corpus_calls_unusable_is_refused() -> None:
    for case in corpus("standard-webhooks/vectors.json")["config"]:
        with pytest.raises(ValueError, match="a signing secret is"):
            signing_key(case["secret"])


@pytest.mark.parametrize(
    "url", ["ftp://host/", "https://", "https://host/#x", "https://höst/", "https://host/a b", "https://host:99999/"]
)
def test_an_address_that_cannot_be_right_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SECRET", _SECRET)
    assert WebhookOptions.model_validate({"url": "https://host:8443/x?y=1", "secret": "env:FAKE_SECRET"})
    with pytest.raises(ValidationError, match="url"):
        WebhookOptions.model_validate({"url": url, "secret": "env:FAKE_SECRET"})


def test_machines_get_the_request_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SECRET", _SECRET)
    options = WebhookOptions.model_validate({"url": "https://host/", "secret": "env:FAKE_SECRET"})
    channel = WebhookChannel(options)
    for text in naughty_strings():
        content = json.loads(json.dumps(channel.render(example_view(text, metadata={"order": text})).content))
        assert content["data"]["description"] == text
        assert content["data"]["metadata"] == {"order": text}
        assert content["timestamp"] == content["data"]["created_at"] == "2026-03-04T14:02:00Z"
