"""What every answer of the API carries, and how paths, methods and odd headers are met."""

from __future__ import annotations

import string
from typing import Any
from uuid import uuid4

import flask
import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from assistance.api.app import create_app
from assistance.domain.caller import Caller, Scope
from tests.memory_door import MemoryDoor

GOOD = {"topic": "sales", "description": "x"}
PATHS = [
    "/assistance",
    "/assistance/01a1fc6b-b2f4-4506-9315-a5516b447d1a",
    "/livez",
    "/readyz",
    "/health",
    "/metrics",
    "/problems/not-found",
]


@pytest.fixture
def door() -> MemoryDoor:
    return MemoryDoor()


@pytest.mark.parametrize("path", [*PATHS, "/nowhere", "/problems/nothing"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", "FOO"])
def test_every_answer_carries_the_same_safe_headers(door: MemoryDoor, method: str, path: str) -> None:
    response = door.app().test_client().open(path, method=method)
    assert response.status_code < 500
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Request-Id"]
    assert "Server" not in response.headers
    if response.content_type.startswith("text/"):
        assert "charset=utf-8" in response.content_type


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "FOO"])
def test_a_method_that_a_path_does_not_take_is_told_which_it_takes(door: MemoryDoor, method: str, path: str) -> None:
    response = door.app().test_client().open(path, method=method)
    assert response.status_code == 405
    assert response.get_json()["code"] == "method-not-allowed"
    expected = {"GET", "HEAD", "OPTIONS"} | ({"POST"} if path == "/assistance" else set())
    assert set(response.headers["Allow"].split(", ")) == expected


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/assistance/",
        "/assistance//",
        "/assistance/../admin",
        "/assistance/%2e%2e/health",
        "/assistance%00",
        "/assistance;x",
        "/Assistance",
        "/livez/",
        "/problems/",
        "/problems//not-found",
        "/" + "a" * 8192,
        "/%ff%fe",
    ],
)
def test_a_variant_of_a_path_is_not_found_and_never_redirected(door: MemoryDoor, method: str, path: str) -> None:
    response = door.app().test_client().open(path, method=method, json=GOOD if method == "POST" else None)
    assert (response.status_code, response.get_json()["code"]) == (404, "not-found")
    assert "Location" not in response.headers
    assert not response.get_json().get("instance", "").startswith("//")
    assert len(response.get_data()) < 500
    assert door.submitted == []


@pytest.mark.parametrize("path", ["", "*", "assistance", "//assistance", "///assistance", "//evil.example/assistance"])
def test_leading_slashes_are_counted_as_the_server_hands_them_over(door: MemoryDoor, path: str) -> None:
    # The test client would read such a path as the name of a host, so it goes in below it.
    response = door.app().test_client().post("/x", json=GOOD, environ_overrides={"PATH_INFO": path})
    assert (response.status_code, response.get_json()["code"]) == (404, "not-found")
    assert not response.get_json().get("instance", "").startswith("//")
    assert door.submitted == []


def test_the_host_and_forwarding_headers_of_a_caller_are_never_echoed(door: MemoryDoor) -> None:
    door.caller = Caller(client="bot", scopes=frozenset({Scope.SUBMIT}))
    forged = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "gopher"}
    response = door.app().test_client().post("/assistance", json=GOOD, headers=forged)
    assert response.status_code == 202
    assert response.headers["Location"].startswith("/assistance/")
    assert "evil" not in str(response.headers) + response.get_data(as_text=True)


def test_a_method_override_header_is_ignored(door: MemoryDoor) -> None:
    response = door.app().test_client().get("/livez", headers={"X-HTTP-Method-Override": "DELETE"})
    assert response.status_code == 200


@pytest.mark.parametrize("host", ["", "a,b", "a b", "a/b", "[::1", "é"])
def test_http_1_1_needs_exactly_one_host(door: MemoryDoor, host: str) -> None:
    response = door.app().test_client().post("/assistance", json=GOOD, environ_overrides={"HTTP_HOST": host})
    assert (response.status_code, response.get_json()["code"]) == (400, "bad-request")
    assert door.submitted == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8080", "[::1]:8080", "api.example.com:443"])
def test_usual_hosts_are_served(door: MemoryDoor, host: str) -> None:
    assert door.app().test_client().get("/livez", environ_overrides={"HTTP_HOST": host}).status_code == 200


@pytest.mark.parametrize("given_id", ["a", "x" * 64, "8e03978e-40d5", "A.b_c-9"])
def test_a_harmless_request_id_of_the_caller_is_kept(door: MemoryDoor, given_id: str) -> None:
    response = door.app().test_client().get("/nowhere", headers={"X-Request-Id": given_id})
    assert response.headers["X-Request-Id"] == given_id == response.get_json()["request_id"]


@pytest.mark.parametrize("given_id", ["", "x" * 65, "x" * 300, "a b", "a\tb", "é", "a\r\nSet-Cookie: b", "a\n", "<b>"])
def test_any_other_request_id_is_replaced(door: MemoryDoor, given_id: str) -> None:
    response = door.app().test_client().get("/livez", environ_overrides={"HTTP_X_REQUEST_ID": given_id})
    assert len(response.headers["X-Request-Id"]) == 36
    assert "Set-Cookie" not in response.headers


def test_one_call_writes_one_log_line_without_what_the_customer_wrote(door: MemoryDoor) -> None:
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        response = door.app().test_client().get(f"/assistance/{uuid4()}?token=secret")
    (line,) = lines
    assert line["event"] == "api.answered"
    assert line["log_level"] == "info"
    assert line["request_id"] == response.headers["X-Request-Id"]
    assert (line["method"], line["path"], line["status"]) == ("GET", "/assistance/<uuid:request_id>", 404)
    assert line["ms"] >= 0
    assert "secret" not in str(line)


def test_the_request_id_does_not_stick_to_the_thread(door: MemoryDoor) -> None:
    door.app().test_client().get("/livez")
    assert "request_id" not in structlog.contextvars.get_contextvars()


def test_every_answer_is_counted_by_its_status_and_timed(door: MemoryDoor) -> None:
    def counts() -> list[float]:
        status = [REGISTRY.get_sample_value("http_requests_total", {"status": code}) or 0 for code in ("200", "404")]
        return [*status, REGISTRY.get_sample_value("http_request_duration_seconds_count") or 0]

    before = counts()
    client = door.app().test_client()
    client.get("/livez")
    client.get("/nowhere")
    client.get("/nowhere")
    assert [now - then for now, then in zip(counts(), before, strict=True)] == [1, 2, 3]


def test_another_part_may_add_its_pages(door: MemoryDoor) -> None:
    sandbox = flask.Blueprint("sandbox", __name__)
    sandbox.add_url_rule("/sandbox", view_func=lambda: "a page", endpoint="page")
    sandbox.add_url_rule("/broken", view_func=lambda: 1 // 0, endpoint="broken")  # type: ignore[arg-type]
    client = create_app(door.door(), extra_blueprints=[sandbox]).test_client()
    page = client.get("/sandbox")
    assert page.get_data(as_text=True) == "a page"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert client.get("/broken").get_json()["code"] == "internal-error"


_HEADERS = [
    "HTTP_HOST",
    "HTTP_COOKIE",
    "HTTP_RANGE",
    "HTTP_ACCEPT",
    "HTTP_EXPECT",
    "HTTP_IF_NONE_MATCH",
    "HTTP_IF_MODIFIED_SINCE",
    "HTTP_AUTHORIZATION",
    "HTTP_IDEMPOTENCY_KEY",
    "HTTP_X_REQUEST_ID",
    "HTTP_X_FORWARDED_FOR",
    "HTTP_CONTENT_ENCODING",
    "CONTENT_TYPE",
    "CONTENT_LENGTH",
    "QUERY_STRING",
    "REQUEST_METHOD",
    "PATH_INFO",
    "SERVER_NAME",
]
_LATIN = st.text(st.characters(max_codepoint=255), max_size=60)
_TELLING = st.text(st.sampled_from(string.printable + '"\\;,=*/%é\x00'), max_size=60)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(environ=st.dictionaries(st.sampled_from(_HEADERS), _LATIN | _TELLING, max_size=4), post=st.booleans())
def test_no_header_however_odd_makes_the_service_fail(environ: dict[str, Any], post: bool) -> None:
    door = MemoryDoor()
    accepted = door.app().test_client().post("/assistance", json=GOOD).get_json()
    door.submitted.clear()
    overrides = {"REQUEST_METHOD": "POST" if post else "GET", **environ}
    path = "/assistance" if post else accepted["links"]["self"]
    response = door.app().test_client().open(path, method="POST", json=GOOD, environ_overrides=overrides)
    assert response.status_code < 500
    assert len(door.submitted) == (1 if response.status_code == 202 else 0)
