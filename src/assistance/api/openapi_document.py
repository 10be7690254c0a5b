"""From the declarations of operations to a document in OpenAPI 3.1.

What every operation shares is added here: `X-Request-Id`, `Retry-After`, the problems of credentials, limits, bodies
and paths.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from assistance import __version__
from assistance.api.operations import Answer, Header, Operation, Parameter, with_topic
from assistance.api.problem_types import PROBLEM_TYPES, ProblemType
from assistance.api.problems import CONTENT_TYPE
from assistance.api.samples import samples_of

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
_OF_CLIENTS = (
    Header(name="RateLimit", description="How many calls you have left, and when you have more.", always=False),
    Header(name="RateLimit-Policy", description="How many calls you may make in which time.", always=False),
)
_RETRY_AFTER = Header(name="Retry-After", description="Seconds after which the call is worth repeating.")


class _Schemas(GenerateJsonSchema):
    """Without the titles that only repeat names, and strict about the names in an object of the bot's own."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 (pydantic names it)
        return False

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        described = super().dict_schema(schema)
        for pattern, values in described.pop("patternProperties", {}).items():
            # Where only matching names have a schema, the others could hold anything.
            described["propertyNames"] = {**described.get("propertyNames", {}), "pattern": pattern}
            described["additionalProperties"] = values
        return described


def describe(declared: Sequence[Operation], topics: Sequence[str]) -> dict[str, Any]:
    """The document of an installation with these operations and topics; without topics, of any."""
    return _Document(declared, topics).whole()


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
            if "enum" in schema:
                # What an enumeration says of itself is for those who read the code.
                schema.pop("description", None)
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
                "schemas": {"Problem": _PROBLEM_SCHEMA, **self._schemas},
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
            content = {"schema": self._references[operation.body, "validation"], "example": body}
            described["requestBody"] = {
                "required": operation.body_required,
                "content": {"application/json": content},
            }
        return described

    def _responses(self, operation: Operation) -> dict[str, Any]:
        responses: dict[str, Any] = {}
        for answer in operation.answers:
            code = str(answer.http_status)
            responses[code] = _merged(responses.get(code), self._answer(answer))
        of_status: dict[int, list[ProblemType]] = {}
        for kind in problems_of(operation):
            of_status.setdefault(kind.http_status, []).append(kind)
        refusals = {str(http_status): _refusal(kinds) for http_status, kinds in sorted(of_status.items())}
        responses |= {code: _merged(responses.get(code), refusal) for code, refusal in refusals.items()}
        if operation.scope is not None:
            for response in responses.values():
                response["headers"] |= _headers(_OF_CLIENTS)
        return responses

    def _answer(self, answer: Answer) -> dict[str, Any]:
        described: dict[str, Any] = {
            "description": answer.description,
            "headers": _headers((*answer.headers, _REQUEST_ID_HEADER)),
        }
        if answer.model is not None:
            content = {"schema": self._references[answer.model, "serialization"]}
            if answer.example is not None:
                example = {"summary": answer.description, "value": with_topic(answer.example, self._topics)}
                content["examples"] = {answer.model.__name__: example}
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
    contents = _told(one)
    for kind, content in _told(other).items():
        contents[kind] = _either(contents[kind], content) if kind in contents else content
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


def _told(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of an answer, each with what is said of it."""
    return {
        kind: {**content, "schema": {"description": answer["description"], **content["schema"]}}
        for kind, content in answer.get("content", {}).items()
    }


def _either(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The content of one of two answers."""
    return {
        "schema": {"anyOf": [one["schema"], other["schema"]]},
        "examples": {**one.get("examples", {}), **other.get("examples", {})},
    }


def _headers(headers: Iterable[Header]) -> dict[str, Any]:
    return {
        header.name: {"description": header.description, "required": header.always, "schema": {"type": "string"}}
        for header in headers
    }


_TEXT = {"type": "string"}
_PROBLEM_SCHEMA: Mapping[str, Any] = {
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
