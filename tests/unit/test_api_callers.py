"""Who may call what: every path asks, but those for probes and readers."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from flask import Flask
from prometheus_client import REGISTRY

from assistance.api.app import create_app
from assistance.domain.caller import ANONYMOUS, Caller, Scope
from assistance.domain.errors import DatabaseUnavailable, IssuerUnavailable, Unauthenticated
from assistance.runtime.addresses import is_loopback
from tests.memory_door import MemoryDoor

OPEN = {"/livez", "/readyz", "/health", "/openapi.json", "/docs", "/problems/<code>", "/metrics", "/ingest/<source>"}
#: Paths for everybody who is known.
FOR_ALL = {"/topics"}
ID = "01a1fc7e-2ccd-784a-8c72-549b47e809ff"


@pytest.fixture
def door() -> MemoryDoor:
    return MemoryDoor()


def paths(app: Flask) -> list[tuple[str, str]]:
    """Every method and path that asks who calls."""
    return [
        (method, re.sub(r"<[^>]+>", ID, rule.rule))
        for rule in app.url_map.iter_rules()
        if rule.rule not in OPEN
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    ]


def test_every_path_but_the_open_ones_asks_who_calls(door: MemoryDoor) -> None:
    door.caller = Unauthenticated("missing")
    app = door.app()
    assert len(paths(app)) >= 2
    for method, path in [*paths(app), ("GET", "/unknown"), ("DELETE", "/livez"), ("GET", f"/problems/{ID}/x")]:
        answer = app.test_client().open(path, method=method)
        assert (answer.status_code, answer.get_json()["code"]) == (401, "unauthenticated"), f"{method} {path}"
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    for path in ("/livez", "/health", "/metrics", "/openapi.json", "/docs", "/problems/not-found"):
        assert app.test_client().get(path).status_code == 200, path


def test_a_caller_without_a_scope_may_do_nothing_with_requests(door: MemoryDoor) -> None:
    door.caller = Caller(client="bot", scopes=frozenset())
    app = door.app()
    for method, path in paths(app):
        answer = app.test_client().open(path, method=method, json={})
        if path not in FOR_ALL:
            assert (answer.status_code, answer.get_json()["code"]) == (403, "forbidden"), f"{method} {path}"
    assert door.submitted == []


@pytest.mark.parametrize(
    ("scopes", "submits", "reads"),
    [
        ({Scope.SUBMIT}, 202, 403),
        ({Scope.READ}, 403, 200),
        ({Scope.OPERATE}, 202, 200),
    ],
    ids=lambda value: "+".join(sorted(value)) if isinstance(value, set) else str(value),
)
def test_a_scope_allows_what_it_says_and_an_operator_everything(
    door: MemoryDoor, scopes: set[Scope], submits: int, reads: int
) -> None:
    door.caller = Caller(client="bot", scopes=frozenset({Scope.SUBMIT}))
    client = door.app().test_client()
    body = {"topic": "sales", "description": "x"}
    location = client.post("/assistance", json=body).headers["Location"]
    door.caller = Caller(client="bot", scopes=frozenset(scopes))
    assert client.post("/assistance", json=body).status_code == submits
    assert client.get(location).status_code == reads


def test_a_body_of_a_stranger_is_not_even_read(door: MemoryDoor) -> None:
    door.caller = Unauthenticated("missing")
    answer = door.app().test_client().post("/assistance", data=b"{", content_type="text/plain")
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (DatabaseUnavailable(), "storage-unavailable"),
        (IssuerUnavailable(), "issuer-unavailable"),
    ],
    ids=["database", "issuer"],
)
def test_a_credential_that_cannot_be_checked_is_no_wrong_one(door: MemoryDoor, failure: Exception, code: str) -> None:
    door.caller = failure
    answer = door.app().test_client().post("/assistance", json={})
    assert (answer.status_code, answer.get_json()["code"]) == (503, code)
    assert answer.get_json()["retryable"] is True
    assert "Retry-After" in answer.headers
    assert "WWW-Authenticate" not in answer.headers


def test_refusals_are_counted_by_reason(door: MemoryDoor) -> None:
    def counted() -> float:
        name = "assistance_authentication_refused_total"
        return REGISTRY.get_sample_value(name, {"reason": "revoked"}) or 0.0

    before = counted()
    door.caller = Unauthenticated("revoked", "bot")
    door.app().test_client().get("/assistance")
    assert counted() == before + 1


@pytest.mark.parametrize("path", ["/metrics", "/sandbox"])
def test_what_is_inside_is_for_this_machine_and_for_operators(door: MemoryDoor, path: str) -> None:
    app = door.app()
    if path == "/sandbox":
        app.add_url_rule(path, view_func=lambda: "mails")

    def status(peer: str, **headers: str) -> int:
        answer = app.test_client().get(path, environ_overrides={"REMOTE_ADDR": peer}, headers=headers)
        return answer.status_code

    door.caller = Unauthenticated("missing")
    assert [status(peer) for peer in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1")] == [200] * 4
    for forged in ({}, {"X-Forwarded-For": "127.0.0.1"}, {"X-Real-IP": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"}):
        strangers = ("192.0.2.1", "::ffff:192.0.2.1", "fe80::1", "", "localhost.evil")
        assert [status(peer, **forged) for peer in strangers] == [401] * 5
    door.caller = Caller(client="bot", scopes=frozenset({Scope.SUBMIT, Scope.READ}))
    assert status("192.0.2.1") == 403
    for scope in (Scope.VIEW, Scope.OPERATE):
        door.caller = Caller(client="watch", scopes=frozenset({scope}))
        assert status("192.0.2.1") == 200


def test_the_page_of_a_sandbox_elsewhere_is_for_everybody_who_reaches_the_api(door: MemoryDoor) -> None:
    app = create_app(replace(door.door(), sandbox_is_elsewhere=True))
    app.add_url_rule("/sandbox", view_func=lambda: "mails")
    door.caller = Unauthenticated("missing")
    stranger = {"REMOTE_ADDR": "192.0.2.1"}
    assert app.test_client().get("/sandbox", environ_overrides=stranger).status_code == 200
    assert app.test_client().get("/metrics", environ_overrides=stranger).status_code == 401


def test_a_caller_from_elsewhere_is_never_anonymous_wherever_the_server_listens(door: MemoryDoor) -> None:
    client = door.app().test_client()
    body = {"topic": "sales", "description": "x"}
    stranger = {"REMOTE_ADDR": "192.0.2.1", "HTTP_X_FORWARDED_FOR": "127.0.0.1"}
    assert client.post("/assistance", json=body, environ_overrides=stranger).status_code == 401
    assert client.post("/assistance", json=body).status_code == 202


ELSEWHERE = [
    pytest.param({"Host": "evil.example"}, id="a name that was turned to this machine"),
    pytest.param({"Host": "localhost.evil.example:8080"}, id="a name that looks like ours"),
    pytest.param({"Host": "192.0.2.1"}, id="another machine's address"),
    pytest.param({"Origin": "https://evil.example"}, id="another page"),
    pytest.param({"Origin": "http://localhost:9999"}, id="a page of another port"),
    pytest.param({"Origin": "null"}, id="a page without an origin"),
    pytest.param({"X-Forwarded-For": "192.0.2.1"}, id="a gateway on this machine"),
    pytest.param({"Forwarded": "for=192.0.2.1"}, id="another gateway on this machine"),
]


@pytest.mark.parametrize("headers", ELSEWHERE)
def test_a_page_in_a_browser_on_this_machine_is_no_caller_of_this_machine(
    door: MemoryDoor, headers: dict[str, str]
) -> None:
    client = door.app().test_client()
    # The calls that a browser makes for any page without asking first: without a body, or with one of a form.
    for method, path in [*paths(door.app()), ("GET", "/metrics")]:
        answer = client.open(path, method=method, headers=headers)
        assert (answer.status_code, answer.get_json()["code"]) == (401, "unauthenticated"), f"{method} {path}"
    assert "strasse" not in client.get("/openapi.json", headers=headers).get_data(as_text=True)
    door.caller = Caller(client="bot", scopes=frozenset({Scope.READ}))
    assert client.get("/assistance", headers=headers).status_code == 200


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "LOCALHOST", "127.0.0.1:8080", "[::1]:8080"])
def test_callers_and_pages_of_this_machine_are_known_by_its_own_names(door: MemoryDoor, host: str) -> None:
    for headers in ({"Host": host}, {"Host": host, "Origin": f"http://{host}"}):
        assert door.app().test_client().get("/assistance", headers=headers).status_code == 200


def test_anonymous_callers_may_do_everything() -> None:
    assert all(ANONYMOUS.may(scope) for scope in Scope)
    assert ANONYMOUS.sees is None
    assert Caller(client="bot", scopes=frozenset({Scope.SUBMIT, Scope.READ})).sees == "bot"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("localhost.example.com", False),
        ("", False),
    ],
)
def test_only_loopback_addresses_are_this_machine(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
