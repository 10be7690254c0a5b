"""JSON Web Tokens: only what a configured issuer signed, for us, and for now, says who calls."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import string
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from assistance.clients import key_sets
from assistance.clients.issuers import Issuer, open_issuer
from assistance.clients.tokens import looks_like_a_token, unverified_issuer
from assistance.configuration import IssuerSettings
from assistance.domain.caller import Caller, Scope
from assistance.domain.errors import IssuerUnavailable, SettingsError, Unauthenticated
from assistance.runtime.clock import Deadline

NOW = 1_800_000_000
RSA = RSAKey.generate_key(2048, {"kid": "rsa-1"})
OTHER_RSA = RSAKey.generate_key(2048, {"kid": "rsa-2"})
EC = ECKey.generate_key("P-256", {"kid": "ec-1"})
SECRET = "a secret of more than thirty-two bytes"
CLAIMS = {
    "iss": "https://login.example.com/",
    "aud": "assistance",
    "sub": "helpdesk-bot",
    "exp": NOW + 600,
    "scope": "submit read openid",
}


def token(claims: dict[str, Any], key: Any = RSA, algorithm: str = "RS256", **header: Any) -> str:
    kid = {"kid": key.kid} if getattr(key, "kid", None) else {}
    return jwt.encode({"alg": algorithm, **kid, **header}, claims, key, algorithms=[algorithm])


def with_claims(**changed: Any) -> dict[str, Any]:
    return {name: value for name, value in {**CLAIMS, **changed}.items() if value is not None}


def settings(**changed: Any) -> IssuerSettings:
    known = {"name": "sso", "issuer": CLAIMS["iss"], "audience": "assistance", "algorithms": ("RS256", "ES256")}
    return IssuerSettings(**{**known, **changed})


def write_keys(path: Path, *keys: Any) -> str:
    path.write_text(json.dumps({"keys": [key.as_dict(private=False) for key in keys]}), encoding="utf-8")
    return f"file:{path}"


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    return issuer_of(settings(jwks=write_keys(tmp_path / "jwks.json", RSA, EC)))


def issuer_of(configured: IssuerSettings) -> Issuer:
    return Issuer(configured, open_issuer(configured)._keys, now=lambda: NOW)


def ask(issuer: Issuer, text: str) -> Caller:
    return issuer.caller(text, Deadline.after(5))


def reason(issuer: Issuer, text: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        ask(issuer, text)
    return caught.value.reason


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256")], ids=["RS256", "ES256"])
def test_a_token_of_the_issuer_names_the_client_and_its_scopes(issuer: Issuer, key: Any, algorithm: str) -> None:
    text = token(CLAIMS, key, algorithm)
    assert looks_like_a_token(text)
    assert unverified_issuer(text) == CLAIMS["iss"]
    assert ask(issuer, text) == Caller(client="sso:helpdesk-bot", scopes=frozenset({Scope.SUBMIT, Scope.READ}))


def test_a_shared_secret_signs_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSO_SECRET", SECRET)
    shared = issuer_of(settings(algorithms=("HS256",), secret="env:SSO_SECRET"))
    assert ask(shared, token(CLAIMS, OctKey.import_key(SECRET), "HS256")).client == "sso:helpdesk-bot"
    assert reason(shared, token(CLAIMS)) == "untrusted"
    assert reason(shared, token(CLAIMS, OctKey.import_key(SECRET[::-1]), "HS256")) == "untrusted"
    assert ask(shared, signed_with_bytes({"alg": "HS256"}, SECRET.encode()))
    for header in (
        {"crit": ["b64"], "b64": False},
        {"crit": ["exp"], "exp": 1},
        {"zip": "DEF", "enc": "A128GCM"},
    ):
        assert reason(shared, signed_with_bytes({"alg": "HS256", **header}, SECRET.encode())) == "untrusted"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"exp": None}, "untrusted"),
        ({"exp": NOW - 30}, "expired"),
        ({"exp": "2100-01-01"}, "untrusted"),
        ({"exp": True}, "untrusted"),
        ({"aud": None}, "untrusted"),
        ({"aud": "another-service"}, "untrusted"),
        ({"aud": ["another-service", "a third"]}, "untrusted"),
        ({"aud": {"assistance": 1}}, "untrusted"),
        ({"iss": None}, "untrusted"),
        ({"iss": "https://login.example.com"}, "untrusted"),
        ({"nbf": NOW + 31}, "untrusted"),
        ({"iat": NOW + 31}, "untrusted"),
        ({"sub": None}, "untrusted"),
        ({"sub": ""}, "untrusted"),
        ({"sub": 7}, "untrusted"),
        ({"sub": "a b"}, "untrusted"),
        ({"sub": "a:b"}, "untrusted"),
        ({"sub": "a" * 101}, "untrusted"),
    ],
    ids=lambda value: json.dumps(value)[:40],
)
def test_a_token_that_is_not_for_us_or_not_for_now_is_refused(
    issuer: Issuer, changed: dict[str, Any], expected: str
) -> None:
    assert reason(issuer, token(with_claims(**changed))) == expected


def test_clocks_may_differ_by_half_a_minute(issuer: Issuer) -> None:
    for claims in (
        with_claims(exp=NOW - 29),
        with_claims(nbf=NOW + 30, iat=NOW + 30),
        with_claims(aud=["x", "assistance"]),
    ):
        assert ask(issuer, token(claims)).client == "sso:helpdesk-bot"


@pytest.mark.parametrize(
    ("claim", "scopes"),
    [
        ("submit", {Scope.SUBMIT}),
        ("  read  operate ", {Scope.READ, Scope.OPERATE}),
        (["submit", 7, "Read"], {Scope.SUBMIT}),
        ("submitread SUBMIT", set()),
        (None, set()),
        (7, set()),
        ({"submit": True}, set()),
    ],
    ids=lambda value: str(value) if not isinstance(value, set) else "",
)
def test_only_whole_words_that_are_scopes_give_a_scope(issuer: Issuer, claim: Any, scopes: set[Scope]) -> None:
    assert ask(issuer, token(with_claims(scope=claim))).scopes == scopes


def test_other_claims_may_name_the_client_and_its_scopes(tmp_path: Path) -> None:
    made = issuer_of(
        settings(jwks=write_keys(tmp_path / "jwks.json", RSA), client_claim="azp", scope_claim="permissions")
    )
    found = ask(made, token(with_claims(sub=None, azp="4f1c@clients", permissions=["operate"])))
    assert found == Caller(client="sso:4f1c@clients", scopes=frozenset({Scope.OPERATE}))


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unsigned(header: dict[str, Any], signature: bytes = b"") -> str:
    return f"{b64(json.dumps(header).encode())}.{b64(json.dumps(CLAIMS).encode())}.{b64(signature)}"


def signed_with_bytes(header: dict[str, Any], secret: bytes) -> str:
    head, body, _ = unsigned(header).split(".")
    return f"{head}.{body}.{b64(hmac.new(secret, f'{head}.{body}'.encode(), hashlib.sha256).digest())}"


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "", "HS256", "PS256", "RS512", "dir", "EdDSA"])
def test_an_algorithm_that_is_not_configured_is_refused(issuer: Issuer, name: str) -> None:
    for text in (unsigned({"alg": name, "kid": "rsa-1"}, b"x"), unsigned({"alg": name})):
        assert reason(issuer, text) == "untrusted"


def test_a_key_that_is_there_works_only_for_the_algorithms_that_are_configured(tmp_path: Path) -> None:
    made = issuer_of(settings(algorithms=("ES256",), jwks=write_keys(tmp_path / "jwks.json", RSA, EC)))
    assert ask(made, token(CLAIMS, EC, "ES256"))
    assert reason(made, token(CLAIMS)) == "untrusted"


def test_a_public_key_is_never_taken_for_a_secret(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    public = [RSA.as_pem(private=False), RSA.as_der(private=False), json.dumps(RSA.as_dict(private=False)).encode()]
    for secret in public:
        assert reason(issuer, signed_with_bytes({"alg": "HS256", "kid": "rsa-1"}, secret)) == "untrusted"
        assert reason(issuer, signed_with_bytes({"alg": "RS256", "kid": "rsa-1"}, secret)) == "untrusted"
    monkeypatch.setenv("SSO_SECRET", public[0].decode())
    with pytest.raises(SettingsError, match="public or private key"):
        open_issuer(settings(algorithms=("HS256",), secret="env:SSO_SECRET"))


def test_a_secret_in_a_key_set_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    secret = OctKey.import_key(SECRET, {"kid": "oct-1"})
    path.write_text(json.dumps({"keys": [secret.as_dict(), RSA.as_dict(private=False)]}), encoding="utf-8")
    made = issuer_of(settings(jwks=f"file:{path}"))
    assert reason(made, token(CLAIMS, secret, "HS256")) == "untrusted"
    assert ask(made, token(CLAIMS))


def test_a_key_in_the_token_itself_counts_for_nothing(issuer: Issuer) -> None:
    for header in (
        {"jwk": OTHER_RSA.as_dict(private=False)},
        {"jku": "https://evil.example.com/jwks.json"},
        {"kid": "rsa-1"},
    ):
        assert reason(issuer, token(CLAIMS, OTHER_RSA, **header)) == "untrusted"
    assert reason(issuer, unsigned({"alg": "RS256", "kid": 7})) == "untrusted"


def test_a_token_without_a_kid_works_only_where_one_key_can_be_meant(tmp_path: Path) -> None:
    text = jwt.encode({"alg": "RS256"}, CLAIMS, RSA, algorithms=["RS256"])
    assert ask(issuer_of(settings(jwks=write_keys(tmp_path / "one.json", RSA, EC))), text)
    assert reason(issuer_of(settings(jwks=write_keys(tmp_path / "two.json", RSA, OTHER_RSA))), text) == "untrusted"


def test_tokens_that_nobody_wrote_are_refused_and_never_break_anything(issuer: Issuer) -> None:
    dice = random.Random(1)
    good = token(CLAIMS, EC, "ES256")
    alphabet = string.ascii_letters + string.digits + "-_."
    deep = b64(b"[" * 5000 + b"]" * 5000)
    odd = [f"{deep}.{deep}.x", f"{good.split('.')[0]}.{deep}.x", ".".join(["e30"] * 3), "....", "a.b", f"{good}.{good}"]
    for _ in range(1000):
        letters = list(good)
        for _ in range(dice.randint(1, 3)):
            letters[dice.randrange(len(letters))] = dice.choice(alphabet)
        odd.append("".join(letters))
    for text in odd:
        unverified_issuer(text)
        # The last character of a signature has bits that mean nothing: another one may be the same signature.
        if text[:-1] == good[:-1]:
            continue
        assert reason(issuer, text) in ("untrusted", "expired")


class Provider:
    """Plays the issuer's server: `keys` are what it has, none when it is away."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.keys: tuple[Any, ...] | None = ()
        self.fetches = 0
        self.now = 1000.0
        monkeypatch.setattr(key_sets, "_content", self._content)
        monkeypatch.setattr(key_sets, "monotonic", lambda: self.now)

    def _content(self, _address: str, _seconds: float) -> bytes:
        self.fetches += 1
        if self.keys is None:
            raise OSError("nobody there")
        return json.dumps({"keys": [key.as_dict(private=False) for key in self.keys]}).encode()


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Provider:
    return Provider(monkeypatch)


def test_a_new_key_is_fetched_when_it_is_first_seen_and_unknown_ones_not_more_often_than_every_30_s(
    provider: Provider,
) -> None:
    made = issuer_of(settings(jwks="https://login.example.com/jwks.json"))
    provider.keys = (RSA,)
    for _ in range(10):
        assert ask(made, token(CLAIMS))
    assert provider.fetches == 1
    provider.keys = (RSA, OTHER_RSA)
    for _ in range(10):
        assert reason(made, token(CLAIMS, OTHER_RSA)) == "untrusted"
    assert provider.fetches == 1
    provider.now += 30
    assert ask(made, token(CLAIMS, OTHER_RSA))
    assert provider.fetches == 2


def test_the_keys_are_kept_while_the_issuer_is_away_and_what_cannot_be_checked_is_no_refusal(
    provider: Provider,
) -> None:
    made = issuer_of(settings(jwks="https://login.example.com/jwks.json"))
    provider.keys = None
    with pytest.raises(IssuerUnavailable):
        ask(made, token(CLAIMS))
    provider.now += 1
    provider.keys = (RSA,)
    assert ask(made, token(CLAIMS))
    provider.keys = None
    provider.now += 700
    assert ask(made, token(CLAIMS))
    with pytest.raises(IssuerUnavailable):
        ask(made, token(CLAIMS, OTHER_RSA))
    assert provider.fetches == 3


def test_a_key_that_the_issuer_withdrew_counts_no_longer_than_ten_minutes(provider: Provider) -> None:
    made = issuer_of(settings(jwks="https://login.example.com/jwks.json"))
    provider.keys = (RSA, OTHER_RSA)
    assert ask(made, token(CLAIMS, OTHER_RSA))
    provider.keys = (RSA,)
    provider.now += 601
    assert reason(made, token(CLAIMS, OTHER_RSA)) == "untrusted"


class KeyServer(BaseHTTPRequestHandler):
    """The issuer's server, on loopback."""

    def do_GET(self) -> None:
        status = {"/jwks.json": 200, "/moved": 302}.get(self.path, 500)
        body = json.dumps({"keys": [RSA.as_dict(private=False)]}).encode()
        self.send_response(status)
        self.send_header("Location", "/jwks.json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_the_keys_come_over_http_and_from_no_other_place_than_the_configured_one() -> None:
    with HTTPServer(("127.0.0.1", 0), KeyServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert ask(issuer_of(settings(jwks=f"{url}/jwks.json")), token(CLAIMS))
        for path in ("/moved", "/broken"):
            with pytest.raises(IssuerUnavailable):
                ask(issuer_of(settings(jwks=url + path)), token(CLAIMS))
        server.shutdown()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": [{"kty": "oct", "k": "AAAA"}]}',
        b"[" * 100_000,
        b"\xff",
        b'{"keys": [7]}',
    ],
    ids=lambda content: repr(content[:20]),
)
def test_an_answer_that_holds_no_keys_is_as_if_the_issuer_were_away(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(content)
    with pytest.raises(IssuerUnavailable):
        ask(issuer_of(settings(jwks=f"file:{path}")), token(CLAIMS))


def test_a_secret_that_can_be_guessed_or_is_missing_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    configured = settings(algorithms=("HS256",), secret="env:SSO_SECRET")
    with pytest.raises(SettingsError, match=r"\[issuers.sso\] secret is wrong: .*SSO_SECRET is not set"):
        open_issuer(configured)
    monkeypatch.setenv("SSO_SECRET", "x" * 31)
    with pytest.raises(SettingsError, match="fewer than 32 bytes") as caught:
        open_issuer(configured)
    assert "xxx" not in str(caught.value)
