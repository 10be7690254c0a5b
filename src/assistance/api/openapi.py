"""`GET /openapi.json`: the API as OpenAPI 3.1, made of the declarations beside the routes and the models that validate.

A module with routes declares them like this, and is named in `_DECLARING`:

    OPERATIONS = (
        Operation(
            method="POST", path="/assistance/<request_id>/cancel", name="cancel", group="Requests", scope=Scope.SUBMIT,
            summary="Call a request off", parameters=(REQUEST_ID,), python="client.cancel(id)",
            answers=(Answer(http_status=200, description="It is cancelled.", model=RequestAnswer),),
            problems=(ALREADY_ENDED,),
        ),
    )

What every operation shares is added here: `X-Request-Id`, `Retry-After`, the problems of credentials, limits, bodies
and paths. A test proves that each route is declared, and that real answers are as declared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import flask
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema

from assistance import __version__
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
    status,
    webhooks,
)
from assistance.api.answers import json_answer
from assistance.api.door import Door
from assistance.api.operations import Answer, Header, Operation, Parameter, with_topic
from assistance.api.problems import CONTENT_TYPE, PROBLEM_TYPES, ProblemType
from assistance.api.samples import samples_of
from assistance.domain.errors import AssistanceError
from assistance.runtime.clock import Deadline

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
    health,
    problem_pages,
)
_OF_EVERY_CALL = ("bad-request", "internal-error")
_OF_CREDENTIALS = ("unauthenticated", "forbidden", "rate-limited", "storage-unavailable", "issuer-unavailable")
_OF_BODIES = (
    "malformed-json",
    "body-truncated",
    "length-required",
    "body-too-large",
    "unsupported-media-type",
    "validation-failed",
)
_OF_PATHS = ("not-found",)
_ABOUT = (
    "A bot asks for the help of people; they are told on the channels that they use. A 202 means that the request is "
    "on disk and will be told, or ends as a dead letter that an operator can replay."
)
_CREDENTIALS = (
    "An API key, or a JWT of an issuer that the operator trusts. While neither a client nor an issuer is configured, "
    "callers on the machine itself need none."
)
_REQUEST_ID_HEADER = Header(
    name="X-Request-Id", description="The id of this call in the logs of the service: yours if you sent one."
)
_RETRY_AFTER = Header(name="Retry-After", description="Seconds after which the call is worth repeating.")


class _Schemas(GenerateJsonSchema):
    """Without the titles that only repeat names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 (pydantic names it)
        return False


def add_routes(app: flask.Flask, door: Door) -> None:
    """Serve the description of the API."""

    @app.get("/openapi.json")
    def openapi() -> flask.Response:
        return json_answer(document(topics_for_the_caller(door)))


def topics_for_the_caller(door: Door) -> tuple[str, ...]:
    """The topics, if the caller is known: everybody may read how the API works, but not what it is used for."""
    try:
        door.authenticate(flask.request.headers.get("Authorization"), Deadline.after(door.deadline_seconds))
    except AssistanceError:
        return ()
    return tuple(door.topics())


def operations() -> list[Operation]:
    """Every operation of the API, in the order of the page."""
    return [operation for module in _DECLARING for operation in module.OPERATIONS] + list(OPERATIONS)


@lru_cache(maxsize=4)
def document(topics: tuple[str, ...]) -> dict[str, Any]:
    """The OpenAPI document of an installation with these topics; not to be changed by whoever gets it."""
    return _Document(operations(), topics).whole()


def problems_of(operation: Operation) -> list[ProblemType]:
    """Every problem that a call of this operation may be answered with."""
    codes = [*_OF_EVERY_CALL]
    codes += _OF_CREDENTIALS if operation.scope is not None else ()
    codes += _OF_BODIES if operation.body is not None else ()
    codes += _OF_PATHS if any(parameter.place == "path" for parameter in operation.parameters) else ()
    return list(dict.fromkeys([*(PROBLEM_TYPES[code] for code in codes), *operation.problems]))


class _Document:
    """The document while it is put together."""

    def __init__(self, declared: Sequence[Operation], topics: Sequence[str]) -> None:
        self._operations = declared
        self._topics = topics
        bodies: list[tuple[type[BaseModel], JsonSchemaMode]] = [(o.body, "validation") for o in declared if o.body]
        answers: list[tuple[type[BaseModel], JsonSchemaMode]] = [
            (answer.model, "serialization") for o in declared for answer in o.answers if answer.model
        ]
        self._references, found = models_json_schema(
            list(dict.fromkeys(bodies + answers)),
            ref_template="#/components/schemas/{model}",
            schema_generator=_Schemas,
        )
        self._schemas: dict[str, Any] = found.get("$defs", {})
        for schema in self._schemas.values():
            # Bodies, which refuse members that they do not know, refuse unknown topics too.
            if topics and schema.get("additionalProperties") is False and "topic" in schema["properties"]:
                schema["properties"]["topic"]["enum"] = list(topics)

    def whole(self) -> dict[str, Any]:
        paths: dict[str, dict[str, Any]] = {}
        for operation in self._operations:
            paths.setdefault(_path(operation), {})[operation.method.lower()] = self._described(operation)
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "assistance",
                "version": __version__,
                "summary": "The one place between a bot and the people behind it.",
                "description": _ABOUT,
            },
            "servers": [{"url": "/"}],
            "tags": [{"name": group} for group in dict.fromkeys(operation.group for operation in self._operations)],
            "paths": paths,
            "components": {
                "schemas": {"Problem": PROBLEM_SCHEMA, **self._schemas},
                "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "description": _CREDENTIALS}},
            },
        }

    def _described(self, operation: Operation) -> dict[str, Any]:
        body = with_topic(operation.example, self._topics)
        described: dict[str, Any] = {
            "operationId": operation.name,
            "tags": [operation.group],
            "summary": operation.summary,
            "description": operation.description,
            "security": [{"bearer": [scope.value for scope in operation.scopes]}] if operation.scopes else [],
            "parameters": [_parameter(parameter) for parameter in operation.parameters],
            "responses": self._responses(operation),
            "x-codeSamples": samples_of(operation, body, self._topics),
        }
        if operation.body is not None:
            described["requestBody"] = {
                "required": operation.body_required,
                "content": {"application/json": self._content(operation.body, "validation", body)},
            }
        return described

    def _content(self, model: type[BaseModel], mode: JsonSchemaMode, example: Any) -> dict[str, Any]:
        content: dict[str, Any] = {"schema": self._references[model, mode]}
        return content if example is None else {**content, "example": with_topic(example, self._topics)}

    def _responses(self, operation: Operation) -> dict[str, Any]:
        responses: dict[str, Any] = {}
        for answer in operation.answers:
            code = str(answer.http_status)
            responses[code] = _merged(responses.get(code), self._answer(answer))
        of_status: dict[int, list[ProblemType]] = {}
        for kind in problems_of(operation):
            of_status.setdefault(kind.http_status, []).append(kind)
        refusals = {str(http_status): _refusal(kinds) for http_status, kinds in sorted(of_status.items())}
        return responses | {code: _merged(responses.get(code), refusal) for code, refusal in refusals.items()}

    def _answer(self, answer: Answer) -> dict[str, Any]:
        described: dict[str, Any] = {
            "description": answer.description,
            "headers": _headers((*answer.headers, _REQUEST_ID_HEADER)),
        }
        if answer.model is not None:
            content = self._content(answer.model, "serialization", answer.example)
            described["content"] = {answer.media_type: content}
        elif answer.media_type is not None:
            described["content"] = {answer.media_type: {"schema": {}}}
        return {**described, "links": self._links(answer.names)} if answer.names else described

    def _links(self, names: str) -> dict[str, Any]:
        """Where the id in an answer leads to: every operation whose path takes it."""
        return {
            operation.name: {"operationId": operation.name, "parameters": {names: "$response.body#/id"}}
            for operation in self._operations
            if any(parameter.place == "path" and parameter.name == names for parameter in operation.parameters)
        }


def _path(operation: Operation) -> str:
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", operation.path)


def _parameter(parameter: Parameter) -> dict[str, Any]:
    described = {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.place == "path",
        "description": parameter.description,
        "schema": dict(parameter.schema),
    }
    return described if parameter.example is None else {**described, "example": parameter.example}


def _refusal(kinds: Sequence[ProblemType]) -> dict[str, Any]:
    codes = {"properties": {"code": {"enum": [kind.code for kind in kinds]}}}
    # Only what is refused for a time says for how long.
    timed = any(kind.http_status in (429, 503) for kind in kinds)
    return {
        "description": " ".join(f"{kind.title} (`{kind.code}`)." for kind in kinds),
        "headers": _headers((_REQUEST_ID_HEADER, _RETRY_AFTER) if timed else (_REQUEST_ID_HEADER,)),
        "content": {CONTENT_TYPE: {"schema": {"allOf": [{"$ref": "#/components/schemas/Problem"}, codes]}}},
    }


def _merged(one: Mapping[str, Any] | None, other: Mapping[str, Any]) -> dict[str, Any]:
    """One description of two answers with the same status: what only one of them has may be missing."""
    if one is None:
        return dict(other)
    contents: dict[str, Any] = dict(one.get("content", {}))
    for kind, content in other.get("content", {}).items():
        both = [contents[kind]["schema"], content["schema"]] if kind in contents else []
        contents[kind] = {"schema": {"anyOf": both}} if both else content
    headers = {**one["headers"], **other["headers"]}
    for name in one["headers"].keys() ^ other["headers"].keys():
        headers[name] = {**headers[name], "required": False}
    return {
        **other,
        **one,
        "description": f"{one['description']} {other['description']}",
        "headers": headers,
        "content": contents,
    }


def _headers(headers: Iterable[Header]) -> dict[str, Any]:
    return {
        header.name: {"description": header.description, "required": header.always, "schema": {"type": "string"}}
        for header in headers
    }


_TEXT = {"type": "string"}
PROBLEM_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "description": "A refusal (RFC 9457).",
    "required": ["type", "title", "status", "detail", "code", "retryable", "request_id"],
    "properties": {
        "type": {**_TEXT, "format": "uri-reference", "description": "The page that explains it."},
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": {**_TEXT, "description": "What is wrong with this call, for people."},
        "code": {**_TEXT, "description": "What kind of refusal it is, for programs; it never changes."},
        "retryable": {"type": "boolean", "description": "Whether the same call may succeed later."},
        "request_id": _TEXT,
        "instance": {**_TEXT, "format": "uri-reference"},
        "errors": {
            "type": "array",
            "description": "Every mistake in the call.",
            "items": {
                "type": "object",
                "required": ["pointer", "code", "message"],
                "properties": {"pointer": {**_TEXT, "format": "json-pointer"}, "code": _TEXT, "message": _TEXT},
            },
        },
        "allowed": {"type": "array", "items": _TEXT, "description": "What would be right instead."},
    },
}

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
