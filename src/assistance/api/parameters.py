"""The query of a call, as strictly as the body: what is misspelt would otherwise silently count for nothing."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import flask
from pydantic_core import PydanticCustomError

from assistance.api.problem_types import INVALID_PARAMETER
from assistance.api.problems import LONGEST_ECHO, Problem, shown

_DIGITS = re.compile(r"[0-9]{1,9}")


class Kind(Protocol):
    """What the text of a parameter has to look like."""

    def check(self, text: str) -> Any:
        """The value. Raises `PydanticCustomError` with the end of a sentence that begins with the parameter's name."""

    def description(self) -> dict[str, Any]:
        """The same as JSON Schema."""


@dataclass(frozen=True, slots=True)
class WholeNumber:
    """A number in digits."""

    least: int
    most: int

    def check(self, text: str) -> int:
        """The number."""
        if not _DIGITS.fullmatch(text) or not self.least <= int(text) <= self.most:
            raise PydanticCustomError("out-of-range", f"has to be a whole number from {self.least} to {self.most}")
        return int(text)

    def description(self) -> dict[str, Any]:
        """Its bounds."""
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of these words."""

    words: tuple[str, ...]

    def check(self, text: str) -> str:
        """The word."""
        if text not in self.words:
            raise PydanticCustomError("not-allowed", f"has to be one of: {', '.join(self.words)}")
        return text

    def description(self) -> dict[str, Any]:
        """The words."""
        return {"type": "string", "enum": list(self.words)}


def read_query(kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """The values of the parameters that the call being answered has.

    Raises `Problem` (invalid-parameter) for the first one that is not among `kinds`, occurs twice or is wrong.
    """
    values: dict[str, Any] = {}
    if not flask.request.query_string:
        return values
    try:
        given = flask.request.args
    except UnicodeDecodeError as error:
        raise Problem(INVALID_PARAMETER, "The query holds bytes outside ASCII; write them with % in UTF-8.") from error
    for name, texts in given.lists():
        kind = kinds.get(name)
        if kind is None:
            raise _unknown(name, kinds)
        if len(texts) > 1:
            raise invalid_parameter(name, "occurs twice")
        try:
            values[name] = kind.check(texts[0])
        except PydanticCustomError as error:
            raise invalid_parameter(name, error.message()) from error
    return values


def invalid_parameter(name: str, mistake: str) -> Problem:
    """The problem of a parameter or header; `mistake` ends a sentence that begins with its name."""
    return Problem(INVALID_PARAMETER, f"The parameter {name} {mistake}.")


def _unknown(name: str, known: Collection[str]) -> Problem:
    near = difflib.get_close_matches(name[:LONGEST_ECHO], known, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return Problem(INVALID_PARAMETER, f"No parameter {shown(name)} is known here.{hint}")
