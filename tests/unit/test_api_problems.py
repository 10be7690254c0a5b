"""Refusals: what each failure of the flow looks like from outside, and that every kind is explained."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog
from werkzeug.exceptions import BadGateway, ImATeapot

from assistance.api.problem_pages import retry_sentence
from assistance.api.problem_types import PROBLEM_TYPES, ProblemType
from assistance.domain.errors import CommitUnknown, DatabaseUnavailable, IdempotencyKeyReused, OutboxFull
from tests.memory_door import MemoryDoor

GOOD = {"topic": "sales", "description": "x"}
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "problems.md"


@pytest.mark.parametrize(
    ("failure", "http_status", "code", "retry_after"),
    [
        (DatabaseUnavailable(), 503, "storage-unavailable", "2"),
        (CommitUnknown(), 503, "commit-unknown", "2"),
        (OutboxFull(12.2), 429, "outbox-full", "13"),
        (OutboxFull(0), 429, "outbox-full", "1"),
        (IdempotencyKeyReused(), 422, "idempotency-key-reused", None),
        (ImATeapot(), 400, "bad-request", None),
    ],
)
def test_each_failure_of_the_flow_has_its_own_answer(
    failure: Exception, http_status: int, code: str, retry_after: str | None
) -> None:
    door = MemoryDoor()
    door.failure = failure
    response = door.app().test_client().post("/assistance", json=GOOD)
    problem = response.get_json()
    assert (response.status_code, problem["status"], problem["code"]) == (http_status, http_status, code)
    assert response.content_type == "application/problem+json"
    assert response.headers.get("Retry-After") == retry_after
    assert problem["retryable"] is (retry_after is not None)
    assert problem["instance"] == "/assistance"
    assert problem["title"] == PROBLEM_TYPES[code].title


def test_a_lost_commit_says_that_the_request_may_be_stored_and_how_to_be_sure() -> None:
    door = MemoryDoor()
    door.failure = CommitUnknown()
    detail = door.app().test_client().post("/assistance", json=GOOD).get_json()["detail"]
    assert "may have been accepted" in detail
    assert "same Idempotency-Key" in detail


@pytest.mark.parametrize("failure", [CommitUnknown(), DatabaseUnavailable()])
def test_a_reader_is_never_told_that_something_may_be_stored(failure: Exception) -> None:
    door = MemoryDoor()
    path = door.app().test_client().post("/assistance", json=GOOD).headers["Location"]
    door.failure = failure
    response = door.app().test_client().get(path)
    assert (response.status_code, response.get_json()["code"]) == (503, "storage-unavailable")
    assert response.headers["Retry-After"] == "2"


@pytest.mark.parametrize("failure", [RuntimeError("password=hunter2"), KeyError("x"), BadGateway("hunter2")])
def test_an_unforeseen_failure_is_logged_and_never_shown(failure: Exception) -> None:
    door = MemoryDoor()
    door.failure = failure
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        response = door.app().test_client().post("/assistance", json=GOOD)
    assert (response.status_code, response.get_json()["code"]) == (500, "internal-error")
    assert "hunter2" not in response.get_data(as_text=True)
    (failed,) = [line for line in lines if line["event"] == "api.failed"]
    assert failed["exc_info"] is failure
    assert failed["request_id"] == response.get_json()["request_id"]
    assert [line["status"] for line in lines if line["event"] == "api.answered"] == [500]


@pytest.mark.parametrize("kind", PROBLEM_TYPES.values(), ids=lambda kind: kind.code)
def test_every_kind_of_problem_has_a_page_that_says_what_to_do(kind: ProblemType) -> None:
    response = MemoryDoor().app().test_client().get(f"/problems/{kind.code}")
    page = response.get_data(as_text=True)
    assert response.status_code == 200
    assert response.content_type == "text/html; charset=utf-8"
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert f"<h1>{kind.title}</h1>" in page
    assert f"HTTP status {kind.http_status}" in page
    for tag in ("<h2>What it means</h2>", "<h2>What to do</h2>"):
        assert page.count(tag) == 1


def test_an_unknown_problem_has_no_page() -> None:
    assert MemoryDoor().app().test_client().get("/problems/nothing").get_json()["code"] == "not-found"


def test_the_document_on_problems_says_what_the_registry_says() -> None:
    head, *sections = DOCUMENT.read_text(encoding="utf-8").split("\n## ")
    assert head.startswith("# Problems")
    expected = [
        f"{kind.code}\n\n**{kind.title}.** HTTP status {kind.http_status}, {retry_sentence(kind)}.\n\n"
        f"{kind.meaning}\n\n*What to do:* {kind.remedy}"
        for kind in PROBLEM_TYPES.values()
    ]
    assert [section.strip() for section in sections] == expected
