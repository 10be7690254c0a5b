"""`POST /assistance/batch`: many requests in one call, each with an answer of its own."""

from __future__ import annotations

from typing import Annotated, Any

import flask
from pydantic import BaseModel, ConfigDict, Field

from assistance.api.answers import json_answer
from assistance.api.callers import needs
from assistance.api.door import Door
from assistance.api.idempotency import named_key
from assistance.api.intake import ACCEPTED_EXAMPLE, shown_acceptance
from assistance.api.limits import count_call
from assistance.api.observing import request_id
from assistance.api.operations import Answer, Header, Operation
from assistance.api.parsing import read_json
from assistance.api.problem_types import IDEMPOTENCY_KEY_INVALID, STORAGE_UNAVAILABLE
from assistance.api.problems import Problem
from assistance.api.refusals import problem_for
from assistance.api.schema import parse_submission
from assistance.api.schema.submission import mistaken
from assistance.domain.caller import Caller, Scope
from assistance.domain.errors import CommitUnknown, DatabaseUnavailable
from assistance.runtime.clock import Deadline

_PATH = "/assistance/batch"
_MAX_BYTES = 1024 * 1024
_MOST_REQUESTS = 100
_RETRY_AFTER = "Retry-After"


def add_routes(app: flask.Flask, door: Door) -> None:
    """Serve batches."""

    @app.post(_PATH)
    def submit_batch() -> flask.Response:
        caller = needs(Scope.SUBMIT)
        items = _items(read_json(flask.request, max_bytes=_MAX_BYTES))
        if "Idempotency-Key" in flask.request.headers:
            raise Problem(IDEMPOTENCY_KEY_INVALID, "In a batch, each request takes an idempotency_key of its own.")
        results, waits = _results(door, caller, items)
        answer = json_answer({"results": results})
        if waits:
            answer.headers[_RETRY_AFTER] = max(waits, key=int)
        return answer


def _items(body: Any) -> list[Any]:
    """The requests of a batch. Raises `Problem`."""
    if not isinstance(body, dict):
        raise mistaken("", "not-an-object", "The body has to be a JSON object.")
    for name in body:
        if name != "requests":
            raise mistaken("", "unknown-member", "The body of a batch has the member requests and no other.")
    items = body.get("requests")
    if not isinstance(items, list) or not 1 <= len(items) <= _MOST_REQUESTS:
        raise mistaken("/requests", "not-a-list", f"The requests have to be a list of 1 to {_MOST_REQUESTS}.")
    return items


def _results(door: Door, caller: Caller, items: list[Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """The answer to each request in its order, and the waiting times that refusals named, in seconds.

    All of them share one deadline. Once the database is away, what is left is not tried.
    """
    deadline = Deadline.after(door.deadline_seconds)
    results: list[dict[str, Any]] = []
    waits: list[str] = []
    is_away = False
    for index, item in enumerate(items):
        try:
            if is_away or deadline.has_passed:
                raise DatabaseUnavailable
            if index:  # the first one came with the call itself, which was counted
                count_call(door, caller)
            http_status, body = _submit_one(door, caller, item, deadline)
        except Exception as error:  # noqa: BLE001 (problem_for logs what nobody foresaw)
            is_away = is_away or (isinstance(error, DatabaseUnavailable) and not isinstance(error, CommitUnknown))
            problem = problem_for(error, storing=True)
            http_status = problem.kind.http_status
            body = problem.document(path=_PATH, request_id=request_id())
            waits += [problem.headers[_RETRY_AFTER]] if _RETRY_AFTER in problem.headers else []
        results.append({"index": index, "status": http_status, "body": body})
    return results, waits


def _submit_one(door: Door, caller: Caller, item: Any, deadline: Deadline) -> tuple[int, dict[str, Any]]:
    key = None
    if isinstance(item, dict) and "idempotency_key" in item:
        item = dict(item)
        name = item.pop("idempotency_key")
        # Alone, the same request with the same key would be the same call.
        key = named_key(name, "POST", "/assistance", item)
    submission = parse_submission(item, door.topics())
    accepted = door.submit(submission, key, deadline, client=caller.client)
    return shown_acceptance(accepted, accepted.status)


class BatchBody(BaseModel):
    """Many requests."""

    model_config = ConfigDict(extra="forbid")

    requests: Annotated[list[Any], Field(min_length=1, max_length=_MOST_REQUESTS)] = Field(
        description="Each one is a body of `POST /assistance`, and may have an `idempotency_key` (a string) as well."
    )


class ResultAnswer(BaseModel):
    """What became of one request of a batch."""

    index: int
    status: int = Field(description="The HTTP status that the request would have got alone.")
    body: dict[str, Any] = Field(description="The answer of `POST /assistance`, or a problem document.")


class BatchAnswer(BaseModel):
    """What became of each request, in their order."""

    results: list[ResultAnswer]


OPERATIONS = (
    Operation(
        method="POST",
        path=_PATH,
        name="ask_many",
        group="Asking",
        scope=Scope.SUBMIT,
        summary="Ask for assistance many times at once",
        description=f"At most {_MOST_REQUESTS} requests and {_MAX_BYTES:,} bytes; each counts as a call. "
        "One that is refused does not touch the others. Repeat those whose problem is `retryable`.",
        body=BatchBody,
        example={
            "requests": [{"topic": "sales", "description": "A customer wants an offer.", "idempotency_key": "a-1"}]
        },
        answers=(
            Answer(
                http_status=200,
                description="What became of each request.",
                model=BatchAnswer,
                example={"results": [{"index": 0, "status": 202, "body": ACCEPTED_EXAMPLE}]},
                headers=(Header(name=_RETRY_AFTER, description="When the refused are worth repeating.", always=False),),
            ),
        ),
        problems=(IDEMPOTENCY_KEY_INVALID, STORAGE_UNAVAILABLE),
    ),
)
