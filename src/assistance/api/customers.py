"""`/customers/<id>/…`: everything that is stored about a customer, handed out or erased."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import flask
from pydantic import BaseModel, Field
from pydantic_core import PydanticCustomError

from assistance.api.answers import json_answer
from assistance.api.callers import needs
from assistance.api.door import Door
from assistance.api.operations import Answer, Operation, Parameter
from assistance.api.parameters import Kind, read_query
from assistance.api.problem_types import INVALID_PARAMETER, NOT_FOUND
from assistance.api.problems import Problem
from assistance.api.schema.kinds import Text
from assistance.domain.caller import Scope
from assistance.privacy.customers import Customer
from assistance.privacy.erase import Copy, Erasure
from assistance.privacy.export import plain
from assistance.runtime.clock import Deadline

_NAME = Text(255)
_KINDS: dict[str, Kind] = {"client": _NAME}


def add_routes(app: flask.Flask, door: Door) -> None:
    """Serve what is stored about a customer."""

    @app.get("/customers/<path:customer_id>/export")
    def export(customer_id: str) -> flask.Response:
        customer = _customer(customer_id, needs(Scope.READ).client)
        rows = door.customers.export(customer)
        first = next(rows)  # a database that is away is a problem document, not a cut answer
        return flask.Response(_lines(first, rows), content_type="application/x-ndjson")

    @app.post("/customers/<path:customer_id>/erase")
    def erase(customer_id: str) -> flask.Response:
        needs(Scope.READ)
        customer = _customer(customer_id, needs(Scope.SUBMIT).client)
        deadline = Deadline.after(door.deadline_seconds)
        return json_answer(_shown(door.customers.erase(customer, actor="bot", go_on=lambda: not deadline.has_passed)))


def _customer(customer_id: str, own: str) -> Customer:
    """The customer of the caller, or of the client that an operator names."""
    client = read_query(_KINDS).get("client", own)
    if client != own:
        needs(Scope.OPERATE)
    try:
        return Customer(client=client, id=_NAME.check(customer_id))
    except PydanticCustomError as error:
        raise Problem(NOT_FOUND, "No customer can have this id.") from error


def _lines(first: Mapping[str, Any], others: Iterator[Mapping[str, Any]]) -> Iterator[bytes]:
    yield _line(first)
    for row in others:
        yield _line(row)


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(plain(row), separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _shown(erasure: Erasure) -> dict[str, Any]:
    return {
        "erased": erasure.erased,
        "called_off": erasure.called_off,
        "being_sent": erasure.busy,
        "complete": erasure.is_whole and not erasure.busy,
        "out_of_reach": [_shown_copy(copy) for copy in erasure.copies],
    }


def _shown_copy(copy: Copy) -> dict[str, Any]:
    return {"id": str(copy.request_id), "ref": copy.ref, "channel": copy.channel, "receipt": copy.receipt}


class OutOfReach(BaseModel):
    """A message that people have, or may have: somebody has to delete it by hand."""

    id: str = Field(description="The request that it told.")
    ref: str
    channel: str
    receipt: dict[str, Any] | None = Field(description="The provider's own id; null when nobody knows if it arrived.")


class ErasureAnswer(BaseModel):
    """What was erased, and what was not."""

    erased: list[str] = Field(description="The refs of the requests that say nothing any more.")
    called_off: list[str] = Field(description="Those of them that were not told yet, and will not be.")
    being_sent: list[str] = Field(description="Requests that are being sent this moment. They are untouched.")
    complete: bool = Field(description="False when something is left: call again.")
    out_of_reach: list[OutOfReach]


_PARAMETERS = (
    Parameter(
        name="customer_id", place="path", description="The `customer.id` that the requests came with.", example="cus_42"
    ),
    Parameter(
        name="client",
        description="Whose customer it is, for operators; the caller's own unless it is said.",
        schema={"type": "string", **_NAME.description()},
    ),
)
OPERATIONS = (
    Operation(
        method="GET",
        path="/customers/<path:customer_id>/export",
        name="export_customer",
        group="Customers",
        scope=Scope.READ,
        summary="Get everything that is stored about a customer",
        description="One JSON document a line: each request with its events, deliveries, attempts, dead letters and "
        'idempotency keys. The last line is `{"exported": N}`; without it the answer is not whole.',
        parameters=_PARAMETERS,
        answers=(Answer(http_status=200, description="The requests.", media_type="application/x-ndjson"),),
        problems=(INVALID_PARAMETER,),
    ),
    Operation(
        method="POST",
        path="/customers/<path:customer_id>/erase",
        name="erase_customer",
        group="Customers",
        scope=Scope.SUBMIT,
        scope_as_well=Scope.READ,
        summary="Erase everything that is stored about a customer",
        description="The requests stay and say nothing any more; those that nobody was told yet are called off. Needs "
        "the scope `read` as well. A repeat changes nothing.",
        parameters=_PARAMETERS,
        answers=(Answer(http_status=200, description="What was erased, and what was not.", model=ErasureAnswer),),
        problems=(INVALID_PARAMETER,),
    ),
)
