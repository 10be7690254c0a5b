"""From bytes to JSON, strictly: every accepted byte was announced, counted and understood.

A body that was cut on its way must never look like a shorter one, so a length is demanded and compared. What two JSON
libraries could read in two ways (repeated names, NaN, deep nesting, huge numbers) is refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

from flask import Request
from werkzeug.exceptions import ClientDisconnected

from assistance.api.problem_types import (
    BODY_TOO_LARGE,
    BODY_TRUNCATED,
    LENGTH_REQUIRED,
    MALFORMED_JSON,
    UNSUPPORTED_MEDIA_TYPE,
)
from assistance.api.problems import Problem, shown

MAX_BODY_BYTES = 64 * 1024
MAX_DEPTH = 16
_MAX_NUMBER_CHARACTERS = 100
_DIGITS = re.compile(r"[0-9]+")
#: A string as a whole (also an unterminated one, so that the scan stays linear), or one bracket outside of strings.
_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


def read_json(request: Request, *, max_bytes: int = MAX_BODY_BYTES) -> Any:
    """The JSON value in the body of a request. Raises `Problem`."""
    length = _announced_length(request, max_bytes)
    _check_media_type(request)
    return parse_json(_read(request, length))


def announces_nothing(request: Request) -> bool:
    """Whether a request comes without a body."""
    return request.environ.get("CONTENT_LENGTH") in (None, "", "0") and not request.headers.get("Transfer-Encoding")


def read_bytes(request: Request) -> bytes:
    """The body of a request as it came, whole. Raises `Problem`."""
    return _read(request, _announced_length(request, MAX_BODY_BYTES))


def parse_json(body: bytes) -> Any:
    """The one JSON value in `body`. Raises `Problem` (malformed-json)."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Problem(MALFORMED_JSON, f"The body is not UTF-8: see byte {error.start}.") from error
    if text.startswith("\ufeff"):
        raise Problem(MALFORMED_JSON, "The body starts with a byte order mark.")
    _check_depth(body)
    try:
        return json.loads(
            text,
            object_pairs_hook=_unique_members,
            parse_constant=_refuse_constant,
            parse_int=_integer,
            parse_float=_finite,
        )
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Problem(MALFORMED_JSON, f"The body is not JSON: {error.msg} at {where}.") from error


def _announced_length(request: Request, max_bytes: int) -> int:
    announced = request.environ.get("CONTENT_LENGTH") or ""
    if request.headers.get("Transfer-Encoding") or not _DIGITS.fullmatch(announced):
        raise Problem(LENGTH_REQUIRED, "Send the body in one piece, with its length in bytes as Content-Length.")
    significant = announced.lstrip("0") or "0"
    if len(significant) > len(str(max_bytes)) or int(significant) > max_bytes:
        raise Problem(BODY_TOO_LARGE, f"The body may have {max_bytes} bytes at most.")
    return int(significant)


def _check_media_type(request: Request) -> None:
    if request.mimetype != "application/json":
        raise Problem(UNSUPPORTED_MEDIA_TYPE, "Send the body as Content-Type: application/json.")
    if request.mimetype_params.get("charset", "utf-8").lower() != "utf-8":
        raise Problem(UNSUPPORTED_MEDIA_TYPE, "JSON is always UTF-8; leave the charset out.")
    if request.headers.get("Content-Encoding"):
        raise Problem(UNSUPPORTED_MEDIA_TYPE, "Send the body uncompressed, without Content-Encoding.")


def _read(request: Request, length: int) -> bytes:
    """Read to the announced length: some servers hand over a cut body without any error."""
    pieces: list[bytes] = []
    missing = length
    try:
        while missing and (piece := request.stream.read(missing)):
            pieces.append(piece)
            missing -= len(piece)
    except (ClientDisconnected, OSError) as error:
        raise Problem(BODY_TRUNCATED, "The connection ended in the middle of the body.") from error
    if missing:
        raise Problem(BODY_TRUNCATED, f"Content-Length announced {length} bytes, {length - missing} arrived.")
    return b"".join(pieces)


def _check_depth(body: bytes) -> None:
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return  # the usual case, without a look at each string
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(body):
        first = match[0][:1]
        if first in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise Problem(MALFORMED_JSON, f"The body is nested deeper than {MAX_DEPTH} levels.")
        elif first in b"]}":
            depth -= 1


def _unique_members(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise Problem(MALFORMED_JSON, f"The member {shown(name)} occurs twice.")
        members[name] = value
    return members


def _refuse_constant(name: str) -> Any:
    raise Problem(MALFORMED_JSON, f"{name} is not JSON.")


def _integer(digits: str) -> int:
    if len(digits) > _MAX_NUMBER_CHARACTERS:
        raise Problem(MALFORMED_JSON, f"A number has more than {_MAX_NUMBER_CHARACTERS} characters.")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if len(digits) > _MAX_NUMBER_CHARACTERS or not math.isfinite(number):
        raise Problem(MALFORMED_JSON, "A number is too large.")
    return number
