"""A refusal of the API on its way to the caller (RFC 9457); `problem_types` has every kind of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from assistance.api.problem_types import ProblemType

CONTENT_TYPE = "application/problem+json"
#: Input is never repeated at greater length than this, in characters.
LONGEST_ECHO = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldError:
    """What is wrong with one member of the body, found by its JSON pointer (RFC 6901)."""

    pointer: str
    code: str
    message: str


class Problem(Exception):
    """A refusal on its way to the caller."""

    def __init__(
        self,
        kind: ProblemType,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        allowed: Sequence[str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.errors = tuple(errors)
        self.allowed = allowed
        self.headers = dict(headers or {})

    def document(self, *, path: str, request_id: str) -> dict[str, Any]:
        """The members of the problem document."""
        document: dict[str, Any] = {
            "type": f"/problems/{self.kind.code}",
            "title": self.kind.title,
            "status": self.kind.http_status,
            "detail": self.detail,
            "code": self.kind.code,
            "retryable": self.kind.retryable,
            "request_id": request_id,
        }
        instance = quote(path, safe="/:@!$&'()*+,;=~")
        # A path that starts with two slashes would be a reference to somebody else's host.
        if len(instance) <= LONGEST_ECHO and not instance.startswith("//"):
            document["instance"] = instance
        if self.errors:
            document["errors"] = [
                {"pointer": error.pointer, "code": error.code, "message": error.message} for error in self.errors
            ]
        if self.allowed is not None:
            document["allowed"] = list(self.allowed)
        return document


def shown(text: str) -> str:
    """Input as it may be repeated to its sender: one short quoted piece, control characters escaped."""
    cut = text if len(text) <= LONGEST_ECHO - 4 else text[: LONGEST_ECHO - 5] + "…"
    printable = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in cut)
    return f"'{printable}'"
