"""Tokens that somebody made to get in: every known way to have one counted that the issuer did not sign for us."""

from __future__ import annotations

import base64
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwe, jws
from joserfc.jwk import ECKey, OctKey, RSAKey

from assistance.clients import key_sets
from assistance.clients.authenticate import Authenticator
from assistance.clients.issuers import Issuer
from assistance.clients.key_sets import KeySet
from assistance.clients.tokens import LONGEST_TOKEN, unverified_issuer
from assistance.domain.errors import IssuerUnavailable, Unauthenticated
from assistance.runtime.clock import Deadline
from assistance.storage.database import Database
from tests.unit.test_tokens import (
    CLAIMS,
    EC,
    NOW,
    OTHER_RSA,
    RSA,
    ask,
    b64,
    issuer_of,
    reason,
    settings,
    signed_with_bytes,
    token,
    with_claims,
    write_keys,
)


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    return issuer_of(settings(jwks=write_keys(tmp_path / "jwks.json", RSA, EC)))


def signed(header: str, claims: str, key: Any = RSA, algorithm: str = "RS256") -> str:
    """A genuine signature over a header and claims that are written by hand."""
    honest = jws.serialize_compact({"alg": algorithm, "kid": key.kid}, claims, key, algorithms=[algorithm])
    if not header:
        return honest
    # joserfc writes headers itself; the signature is made over ours with its own algorithm.
    head = b64(header.encode())
    body = honest.split(".")[1]
    made = jws.JWSRegistry.algorithms[algorithm].sign(f"{head}.{body}".encode(), key)
    return f"{head}.{body}.{b64(made)}"


def test_the_hand_that_writes_these_tokens_can_write_a_good_one(issuer: Issuer) -> None:
    assert ask(issuer, signed('{"alg": "RS256", "kid": "rsa-1"}', json.dumps(CLAIMS)))
    assert ask(issuer, signed("", json.dumps(CLAIMS)))


HEADERS = [
    pytest.param('{"alg": "none", "alg": "RS256", "kid": "rsa-1"}', id="an algorithm twice"),
    pytest.param('{"alg": "RS256", "alg": "none", "kid": "rsa-1"}', id="the other one last"),
    pytest.param('{"alg": "RS256", "kid": "no", "kid": "rsa-1"}', id="a key twice"),
    pytest.param('{"alg": ["RS256"], "kid": "rsa-1"}', id="a list of algorithms"),
    pytest.param('{"alg": {"RS256": 1}, "kid": "rsa-1"}', id="an object as algorithm"),
    pytest.param('{"alg": "rs256", "kid": "rsa-1"}', id="an algorithm in lower case"),
    pytest.param('{"kid": "rsa-1"}', id="no algorithm"),
    pytest.param('{"alg": "RS256", "kid": "rsa-1", "crit": ["exp"]}', id="something critical that is not there"),
    pytest.param('{"alg": "RS256", "kid": "rsa-1", "crit": ["odd"], "odd": 1}', id="something critical and unknown"),
    pytest.param('{"alg": "RS256", "kid": "rsa-1", "crit": []}', id="nothing critical"),
    pytest.param('{"alg": "RS256", "kid": "rsa-1", "crit": ["b64"], "b64": false}', id="a payload as it is"),
    pytest.param('{"alg": "RS256", "kid": ["rsa-1"]}', id="a list of keys"),
    pytest.param('{"alg": "RS256", "kid": {"rsa-1": 1}}', id="an object as key"),
    pytest.param('[{"alg": "RS256", "kid": "rsa-1"}]', id="a list as header"),
    *(
        pytest.param(json.dumps({"alg": "RS256", "kid": kid}), id=f"the key {kid[:20]}")
        for kid in (
            "../../../dev/null",
            "/etc/passwd",
            "file:///etc/passwd",
            "https://evil.example/keys",
            "' OR 1=1 --",
            "rsa-1\u0000",
            "RSA-1",
            "",
            "a" * 4000,
        )
    ),
]


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_that_could_be_read_in_two_ways_or_names_no_key_of_ours_is_refused(
    issuer: Issuer, header: str
) -> None:
    assert reason(issuer, signed(header, json.dumps(CLAIMS))) == "untrusted"


TEXT = json.dumps(CLAIMS)[:-1]
PAYLOADS = [
    pytest.param(f'{TEXT}, "exp": {NOW + 9}}}', id="an end twice"),
    pytest.param(f'{TEXT}, "aud": "assistance"}}', id="an audience twice"),
    pytest.param(f'{TEXT}, "scope": "operate"}}', id="scopes twice"),
    pytest.param(TEXT.replace(f'"exp": {NOW + 600}', '"exp": NaN') + "}", id="an end that never comes"),
    pytest.param(TEXT.replace(f'"exp": {NOW + 600}', '"exp": Infinity') + "}", id="an end at infinity"),
    pytest.param(TEXT.replace(f'"exp": {NOW + 600}', '"exp": null') + "}", id="no end"),
    pytest.param(TEXT.replace(f'"exp": {NOW + 600}', '"exp": [9999999999]') + "}", id="a list of ends"),
    pytest.param(TEXT.replace(f'"exp": {NOW + 600}', f'"exp": "{NOW + 600}"') + "}", id="an end as text"),
    pytest.param(f"[{TEXT}}}]", id="a list"),
    pytest.param('"claims"', id="a text"),
    pytest.param("", id="nothing"),
    pytest.param("\ufeff" + TEXT + "}", id="a byte order mark"),
    pytest.param("[" * 100_000, id="far too deep"),
]


@pytest.mark.parametrize("claims", PAYLOADS)
def test_claims_that_could_be_read_in_two_ways_are_refused_although_they_are_signed(
    issuer: Issuer, claims: str
) -> None:
    assert reason(issuer, signed("", claims)) == "untrusted"


def test_keys_and_certificates_that_a_token_brings_along_are_not_looked_at(issuer: Issuer) -> None:
    for header in (
        {"x5u": "https://evil.example/cert.pem"},
        {"x5c": [base64.b64encode(b"certificate").decode()]},
        {"jku": "https://evil.example/jwks.json", "jwk": OTHER_RSA.as_dict(private=False)},
        {"jwk": RSA.as_dict(private=False)},
    ):
        assert reason(issuer, token(CLAIMS, OTHER_RSA, **header)) == "untrusted"
        assert reason(issuer, token(CLAIMS, OTHER_RSA, kid="rsa-1", **header)) == "untrusted"


def test_no_public_key_is_a_secret_in_any_of_its_forms(issuer: Issuer) -> None:
    for key in (RSA, EC):
        pem = key.as_pem(private=False)
        number = key.as_dict(private=False).get("n") or key.as_dict(private=False)["x"]
        for secret in (pem, pem.strip(), pem + b"\n", key.as_der(private=False), str(number).encode(), b""):
            for algorithm in ("HS256", "HS384", "RS256", "ES256"):
                assert reason(issuer, signed_with_bytes({"alg": algorithm, "kid": key.kid}, secret)) == "untrusted"


def test_signatures_that_prove_nothing_are_refused(issuer: Issuer) -> None:
    head, body, _ = token(CLAIMS, EC, "ES256").split(".")
    zero, one = b"\0" * 64, (b"\0" * 31 + b"\1") * 2
    der = b"\x30\x06\x02\x01\x01\x02\x01\x01"
    for made in (zero, one, b"\xff" * 64, der, b"\0", b""):
        assert reason(issuer, f"{head}.{body}.{b64(made)}") == "untrusted"
    other = ECKey.generate_key("P-256", {"kid": "ec-1"})
    assert reason(issuer, token(CLAIMS, other, "ES256")) == "untrusted"
    assert reason(
        issuer, token(with_claims(scope="operate")).rpartition(".")[0] + "." + token(CLAIMS).rpartition(".")[2]
    )


class Ask:
    """The whole way of a credential, up to the database that nobody runs."""

    def __init__(self, issuer: Issuer) -> None:
        database = Database("postgresql://nobody@127.0.0.1:1/nothing", deadline_seconds=1)
        self._ask = Authenticator(database, [issuer], anonymous_allowed=False)

    def __call__(self, credential: str) -> str:
        try:
            return self._ask(f"Bearer {credential}", Deadline.after(2)).client
        except Unauthenticated as refused:
            return refused.reason


def test_what_is_no_signed_token_of_three_parts_is_malformed(issuer: Issuer) -> None:
    door = Ask(issuer)
    good = signed("", json.dumps(with_claims(exp=int(time.time()) + 600)))
    encrypted = jwe.encrypt_compact(
        {"alg": "dir", "enc": "A128GCM"}, json.dumps(CLAIMS), OctKey.import_key("k" * 16), algorithms=["dir", "A128GCM"]
    )
    assert encrypted.count(".") == 4
    head, body, signature = good.split(".")
    odd = [encrypted, f"{head}.{body}", f"{head}.{body}.", f"{head}.{body}.{signature}.", f"{head}..{signature}"]
    odd += [f"{good}=", f"{head}=.{body}.{signature}", f"{head}.{body}.{signature}!", good + "A" * LONGEST_TOKEN]
    odd += [json.dumps({"payload": body, "signatures": [{"protected": head, "signature": signature}]}).replace(" ", "")]
    assert {door(text) for text in odd} == {"malformed"}


def test_a_token_for_another_issuer_is_never_checked_with_ours(issuer: Issuer) -> None:
    door = Ask(issuer)
    for claimed in (
        "https://login.example.com",
        "HTTPS://LOGIN.EXAMPLE.COM/",
        "",
        None,
        ["https://login.example.com/"],
    ):
        text = token(with_claims(iss=claimed))
        assert unverified_issuer(text) in (claimed, None)
        assert door(text) == "untrusted"


def test_callers_who_wait_for_an_issuer_that_is_away_do_not_ask_it_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def slow(_address: str, _seconds: float) -> bytes:
        asked.append(1)
        time.sleep(0.3)
        raise OSError("nobody there")

    monkeypatch.setattr(key_sets, "_content", slow)
    keys = KeySet("https://login.example.com/jwks.json")

    def find() -> None:
        with pytest.raises(IssuerUnavailable):
            keys.find("RS256", "rsa-1", Deadline.after(5))

    threads = [threading.Thread(target=find) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 1


@pytest.mark.filterwarnings("ignore:Key size")
def test_a_key_that_is_too_short_to_trust_is_left_out(tmp_path: Path) -> None:
    short = RSAKey.generate_key(1024, {"kid": "short"})
    made = issuer_of(settings(jwks=write_keys(tmp_path / "jwks.json", short, RSA)))
    assert reason(made, token(CLAIMS, short)) == "untrusted"
    assert ask(made, token(CLAIMS))
