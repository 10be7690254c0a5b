"""Answers compared with what `/openapi.json` says of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import jsonschema_rs
from flask import Flask
from werkzeug.exceptions import HTTPException
from werkzeug.wsgi import ClosingIterator

from assistance.api.openapi import document

Headers = list[tuple[str, str]]

_JSON = ("application/json", "application/problem+json")


class NotAsDescribed(AssertionError):
    """An answer that the description does not know."""


def compare_every_answer(app: Flask) -> None:
    """Have the application fail the test that gets an answer which is not described."""
    inner = app.wsgi_app

    def compared(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        began: list[tuple[str, Headers]] = []

        def begin(status: str, headers: Headers, *rest: Any) -> Any:
            began.append((status, headers))
            return start(status, headers, *rest)

        pieces = inner(environ, begin)
        rule = _rule(app, environ)
        status, headers = began[-1]
        if rule is None or environ["REQUEST_METHOD"] in ("HEAD", "OPTIONS"):
            return pieces
        kind = dict(headers).get("Content-Type", "").partition(";")[0]
        body = b""
        if kind in _JSON:
            body = b"".join(pieces)
            pieces = ClosingIterator([body], getattr(pieces, "close", lambda: None))
        found = list(complaints(environ["REQUEST_METHOD"], rule, int(status[:3]), headers, body))
        if found:
            raise NotAsDescribed(f"{environ['REQUEST_METHOD']} {rule}, {status}: {'; '.join(found)}")
        return pieces

    app.wsgi_app = compared  # type: ignore[method-assign, assignment]


def complaints(method: str, path: str, http_status: int, headers: Headers, body: bytes) -> Iterator[str]:
    """What the description does not say of an answer; `path` as the description writes it."""
    described = document(())["paths"][path][method.lower()]["responses"].get(str(http_status))
    if described is None:
        yield "this status is not described"
        return
    given = {name.lower() for name, _ in headers}
    for name, header in described["headers"].items():
        if header["required"] and name.lower() not in given:
            yield f"the header {name} is missing"
    kind = next((value for name, value in headers if name.lower() == "content-type"), "").partition(";")[0]
    if kind not in described.get("content", {kind: None}):
        yield f"the media type {kind!r} is not described"
    elif body:
        for error in validator(path, method.lower(), http_status, kind).iter_errors(json.loads(body)):
            yield f"{error.message} at {error.instance_path}"


@lru_cache
def validator(path: str, method: str, http_status: int, kind: str) -> jsonschema_rs.Validator:
    """Knows the answer; refuses members that are not described."""
    answer = document(())["paths"][path][method]["responses"][str(http_status)]["content"][kind]
    return validator_of(answer["schema"])


def validator_of(schema: Mapping[str, Any]) -> jsonschema_rs.Validator:
    """Knows a schema of the document; refuses members that are not described."""
    components = _strict(document(())["components"])
    return jsonschema_rs.Draft202012Validator({**schema, "components": components}, validate_formats=True)


def _strict(node: Any) -> Any:
    if isinstance(node, dict):
        strict = {name: _strict(inner) for name, inner in node.items()}
        # Only where the members are named: elsewhere "properties" would be the name of a member.
        return {**strict, "additionalProperties": False} if isinstance(node.get("properties"), dict) else strict
    return [_strict(inner) for inner in node] if isinstance(node, list) else node


def _rule(app: Flask, environ: Mapping[str, Any]) -> str | None:
    try:
        if environ["PATH_INFO"][1:2] == "/" or not environ["PATH_INFO"].startswith("/"):
            return None  # refused before it is routed
        rule, _ = app.url_map.bind_to_environ(dict(environ)).match(return_rule=True)
    except HTTPException:
        return None
    path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
    return path if path in document(())["paths"] else None
