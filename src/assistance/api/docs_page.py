"""`GET /docs`: the description of the API as a page for people, without any script and without the internet."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import flask
from markupsafe import Markup, escape

from assistance.api.door import Door
from assistance.api.openapi import document, topics_for_the_caller
from assistance.api.problems import CONTENT_TYPE
from assistance.api.samples import PYTHON_START, shell_start

_CODE = re.compile(r"`([^`]+)`")
#: Members of members of members are as deep as bodies go.
_DEEPEST = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A parameter or a member, as the page shows it."""

    name: str
    kind: str
    required: bool
    description: str
    depth: int = 0


def add_routes(app: flask.Flask, door: Door) -> None:
    """Serve the page."""
    app.jinja_env.filters["prose"] = _prose

    @app.get("/docs")
    def docs() -> flask.Response:
        described = document(topics_for_the_caller(door))
        nonce = secrets.token_urlsafe(16)
        html = flask.render_template(
            "docs.html",
            info=described["info"],
            groups=_groups(described),
            problem=list(_members(described, {"$ref": "#/components/schemas/Problem"})),
            shell_start=shell_start(flask.request.host_url.rstrip("/")),
            python_start=PYTHON_START,
            nonce=nonce,
        )
        answer = flask.Response(html, content_type="text/html; charset=utf-8")
        answer.headers["Content-Security-Policy"] = (
            f"default-src 'none'; style-src 'nonce-{nonce}'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        answer.headers["Referrer-Policy"] = "no-referrer"
        return answer


def _groups(described: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The operations in their groups, each with what the page tells of it."""
    groups: dict[str, list[dict[str, Any]]] = {tag["name"]: [] for tag in described["tags"]}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            groups[operation["tags"][0]].append(_shown(described, path, method.upper(), operation))
    return groups


def _shown(described: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]) -> dict[str, Any]:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    return {
        "id": operation["operationId"],
        "method": method,
        "path": path,
        "summary": operation["summary"],
        "description": operation["description"],
        "scopes": [scope for needed in operation["security"] for scope in needed["bearer"]],
        "parameters": [
            Row(
                name=parameter["name"],
                kind=f"{parameter['in']}, {_kind(described, parameter['schema'])}",
                required=parameter["required"],
                description=parameter["description"],
            )
            for parameter in operation["parameters"]
        ],
        "body": list(_members(described, body)) if body else [],
        "answers": list(_answers(described, operation)),
        "examples": list(_examples(operation)),
        "problems": list(_problems(operation)),
        "samples": operation["x-codeSamples"],
    }


def _answers(described: Mapping[str, Any], operation: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every answer that is no problem, with its status."""
    for code, response in operation["responses"].items():
        contents = response.get("content", {})
        if not contents:
            yield {"code": code, "description": response["description"], "members": []}
        for kind, content in contents.items():
            if kind == CONTENT_TYPE:
                continue
            # Where there are two, what is said of each stands beside its schema.
            for choice in content["schema"].get("anyOf", [content["schema"]]):
                yield {
                    "code": code,
                    "description": choice.get("description", response["description"]),
                    "kind": "" if kind == "application/json" else kind,
                    "members": list(_members(described, choice)),
                }


def _examples(operation: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The status of an answer, and one as it may look."""
    for code, response in operation["responses"].items():
        for content in response.get("content", {}).values():
            for example in content.get("examples", {}).values():
                yield code, json.dumps(example["value"], indent=2, ensure_ascii=False)


def _problems(operation: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The status and the code of each problem."""
    for code, response in operation["responses"].items():
        refusal = response.get("content", {}).get(CONTENT_TYPE)
        if refusal:
            for name in refusal["schema"]["allOf"][1]["properties"]["code"]["enum"]:
                yield code, name


def _members(described: Mapping[str, Any], schema: Mapping[str, Any], depth: int = 0) -> Iterator[Row]:
    """Every member of an object, those of the objects in it right below it."""
    schema = _without_references(described, schema)
    if depth == 0 and schema.get("type") == "array":
        schema = _without_references(described, schema["items"])
    for name, member in schema.get("properties", {}).items():
        resolved = _without_references(described, member)
        yield Row(
            name=name,
            kind=_kind(described, member),
            required=name in schema.get("required", ()),
            description=member.get("description") or resolved.get("description", ""),
            depth=depth,
        )
        if depth < _DEEPEST:
            inner = resolved.get("items", resolved)
            yield from _members(described, inner, depth + 1)


def _without_references(described: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema itself: behind its reference, and without the `null` that it may be instead."""
    if reference := schema.get("$ref"):
        found: Mapping[str, Any] = described["components"]["schemas"][reference.rpartition("/")[2]]
        return _without_references(described, found)
    choices = [choice for choice in schema.get("anyOf", ()) if choice.get("type") != "null"]
    return _without_references(described, choices[0]) if len(choices) == 1 else schema


def _kind(described: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """What values a member takes, in a few words."""
    choices = [_kind(described, choice) for choice in schema.get("anyOf", ())]
    if choices:
        return " or ".join(dict.fromkeys(choices))
    if "$ref" in schema:
        return _kind(described, _without_references(described, schema))
    if "enum" in schema:
        return " · ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    kind = str(schema.get("format") or schema.get("type", "anything"))
    if kind == "array":
        kind = f"list of {_kind(described, schema['items'])}"
    return kind + _limits(schema)


def _limits(schema: Mapping[str, Any]) -> str:
    units = {"maxLength": "characters", "maxItems": "entries", "maxProperties": "members"}
    most = [f"up to {schema[name]:,} {unit}" for name, unit in units.items() if name in schema]
    if "minimum" in schema and "maximum" in schema:
        most.append(f"{schema['minimum']:,} to {schema['maximum']:,}")
    return "".join(f", {limit}" for limit in most)


def _prose(text: str) -> Markup:
    """A sentence of ours with its `code` marked; everything else is escaped."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 (escaped right here)
