"""The tables of issuers: what they may say, and one sentence for each mistake."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from assistance.configuration import IssuerSettings, load_configuration
from assistance.domain.errors import SettingsError

BASE = """
[channels.people]
type = "email"
url = "smtp://127.0.0.1:1025"
from = "a@example.com"
to = ["b@example.com"]
[topics]
help = "people"
"""
GOOD = {
    "issuer": '"https://login.example.com/"',
    "audience": '"assistance"',
    "algorithms": '["RS256"]',
    "jwks": '"https://login.example.com/jwks.json"',
}


def load(folder: Path, changed: Mapping[str, str | None] | None = None, *, name: str = "login") -> IssuerSettings:
    file = folder / "assistance.toml"
    table = {key: value for key, value in {**GOOD, **(changed or {})}.items() if value is not None}
    lines = [f"{key} = {value}" for key, value in table.items()]
    file.write_text(BASE + f"[issuers.{name}]\n" + "\n".join(lines), encoding="utf-8")
    return load_configuration(file).issuers[name]


def test_an_issuer_is_read_with_its_defaults(tmp_path: Path) -> None:
    assert load(tmp_path) == IssuerSettings(
        name="login",
        issuer="https://login.example.com/",
        audience="assistance",
        algorithms=("RS256",),
        jwks="https://login.example.com/jwks.json",
        client_claim="sub",
        scope_claim="scope",
    )
    shared = load(
        tmp_path,
        {"jwks": None, "secret": '"env:SSO_SECRET"', "algorithms": '["HS256"]', "client_claim": '"azp"'},
    )
    assert (shared.secret, shared.client_claim) == ("env:SSO_SECRET", "azp")
    for place in ("http://127.0.0.1:9/jwks", "http://[::1]/jwks", "http://localhost/jwks", "file:/etc/jwks.json"):
        assert load(tmp_path, {"jwks": f'"{place}"'}).jwks == place


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"issuer": None}, "[issuers.login] issuer is missing."),
        ({"audience": '""'}, "[issuers.login] audience is missing."),
        ({"algorithms": '["HS256"]'}, "algorithms is not a list of RS256 and ES256, which is what its keys are for."),
        ({"algorithms": '["RS256", "none"]'}, "algorithms is not a list of RS256 and ES256"),
        ({"algorithms": "[]"}, "algorithms is not a list of RS256 and ES256"),
        ({"algorithms": '"RS256"'}, "algorithms is not a list of RS256 and ES256"),
        ({"jwks": None, "secret": '"env:A"'}, "algorithms is not a list of HS256"),
        ({"jwks": None, "secret": '"hunter2"', "algorithms": '["HS256"]'}, "secret is written env:NAME or file:PATH"),
        ({"secret": '"env:A"'}, "[issuers.login] needs either jwks or secret."),
        ({"jwks": None}, "[issuers.login] needs either jwks or secret."),
        ({"jwks": '"http://login.example.com/jwks"'}, "jwks is not https://"),
        ({"jwks": '"https://user:password@login.example.com/jwks"'}, "jwks is not https://"),
        ({"jwks": '"ftp://login.example.com/jwks"'}, "jwks is not https://"),
        ({"jwks": '"https://["'}, "jwks is not https://"),
        ({"jwks": "7"}, "jwks is not https://"),
        ({"leeway": '"30s"'}, "[issuers.login] leeway is not a key"),
        ({"scope_claims": '"scp"'}, "did you mean 'scope_claim'?"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_a_mistake_is_one_sentence(tmp_path: Path, changed: dict[str, str | None], sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, changed)
    assert sentence in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert "hunter2" not in str(caught.value)
    assert "password@" not in str(caught.value)


@pytest.mark.parametrize("name", ["source", "Login", "a" * 41, "1st"])
def test_a_name_that_could_be_mistaken_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="is not an issuer name"):
        load(tmp_path, name=name)


def test_two_tables_may_not_speak_for_one_issuer(tmp_path: Path) -> None:
    file = tmp_path / "assistance.toml"
    table = "\n".join(f"{key} = {value}" for key, value in GOOD.items())
    file.write_text(f"{BASE}[issuers.one]\n{table}\n[issuers.two]\n{table}\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"\[issuers.one\] issuer is that of another table too"):
        load_configuration(file)
