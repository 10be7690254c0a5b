"""`GET /openapi.json`: the API as OpenAPI 3.1, made of the declarations beside the routes and the models that validate.

A module with routes declares them like this, and is named in `_DECLARING`:

    OPERATIONS = (
        Operation(
            method="POST", path="/assistance/<uuid:request_id>/cancel", name="cancel", group="Asking",
            scope=Scope.SUBMIT, summary="Cancel a request", parameters=(REQUEST_ID,), python="client.cancel(id)",
            answers=(Answer(http_status=200, description="It is cancelled.", model=ListedRequest),),
            problems=(NOT_CANCELLABLE,),
        ),
    )

`openapi_document` adds what every operation shares. A test proves that each route is declared, and that real answers
are as declared.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import flask

from assistance.api import (
    batch,
    customers,
    events,
    health,
    ingest,
    intake,
    lifecycle,
    listing,
    plans,
    problem_pages,
    stats,
    status,
    webhooks,
)
from assistance.api.answers import json_answer
from assistance.api.callers import knows_the_caller
from assistance.api.door import Door
from assistance.api.openapi_document import describe
from assistance.api.operations import Answer, Operation

_DECLARING = (
    intake,
    lifecycle,
    batch,
    plans,
    status,
    events,
    listing,
    webhooks,
    customers,
    ingest,
    stats,
    health,
    problem_pages,
)


def add_routes(app: flask.Flask, door: Door) -> None:
    """Serve the description of the API."""

    @app.get("/openapi.json")
    def openapi() -> flask.Response:
        return json_answer(document(topics_for_the_caller(door)))


def topics_for_the_caller(door: Door) -> tuple[str, ...]:
    """The topics, if the caller is known: everybody may read how the API works, but not what it is used for."""
    return tuple(door.topics()) if knows_the_caller(door) else ()


def operations() -> list[Operation]:
    """Every operation of the API, in the order of the page."""
    return [operation for module in _DECLARING for operation in module.OPERATIONS] + list(OPERATIONS)


@lru_cache(maxsize=4)
def document(topics: tuple[str, ...]) -> dict[str, Any]:
    """The OpenAPI document of an installation with these topics; not to be changed by whoever gets it."""
    return describe(operations(), topics)


OPERATIONS = (
    Operation(
        method="GET",
        path="/openapi.json",
        name="openapi",
        group="Beside it",
        summary="This description, as OpenAPI 3.1",
        answers=(Answer(http_status=200, description="The document."),),
    ),
    Operation(
        method="GET",
        path="/docs",
        name="docs",
        group="Beside it",
        summary="This description, as a page",
        answers=(Answer(http_status=200, description="The page.", media_type="text/html"),),
    ),
)
