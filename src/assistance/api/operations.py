"""How a route declares what it takes and answers. `/openapi.json` and `/docs` are made of these declarations.

Each module with routes ends with `OPERATIONS`, one `Operation` per route and method, and stands in `_DECLARING` of
`api.openapi`. Models of answers stand beside the route that gives them. The answers themselves stay plain dicts, and
a test compares both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, Field

from assistance.api.problem_types import ProblemType
from assistance.domain.caller import Scope


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """A parameter in the path, the query or a header; those in the path are always required.

    `schema` is JSON Schema for its text, by which a tool may tell good values from bad ones. The example with curl
    sends it if it has a `curl`: its value, as a shell takes it between double quotes.
    """

    name: str
    description: str
    place: str = "query"
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    example: str | int | None = None
    curl: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """A header of an answer; `always` says that no such answer comes without it."""

    name: str
    description: str
    always: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """An answer that is no problem; one without a `media_type` has no body, one without a `model` any.

    `names` is the path parameter, if any, that the member `id` of this answer can be used for.
    """

    http_status: int
    description: str
    model: type[BaseModel] | None = None
    media_type: str | None = "application/json"
    headers: tuple[Header, ...] = ()
    example: Any = None
    names: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One method of one path, written as in the route: `/assistance/<uuid:request_id>`.

    A `scope` implies credentials and the problems that come with them, a `body` those of reading one, a parameter in
    the path that it may name nothing; `problems` are the others. `body_required` is false where no body is fine as
    well. `example` is a body, and `python` the same call with `assistance.client`, where it has one. `shell` is the
    example for the shell where the call is more than one command.
    """

    method: str
    path: str
    name: str
    group: str
    summary: str
    answers: tuple[Answer, ...]
    description: str = ""
    scope: Scope | None = None
    scope_as_well: Scope | None = None
    parameters: tuple[Parameter, ...] = ()
    body: type[BaseModel] | None = None
    body_required: bool = True
    problems: tuple[ProblemType, ...] = ()
    example: Mapping[str, Any] | None = None
    python: str | None = None
    shell: str | None = None

    @property
    def scopes(self) -> list[Scope]:
        """Every scope that a credential needs for it."""
        return [scope for scope in (self.scope, self.scope_as_well) if scope is not None]


class SelfLink(BaseModel):
    """Where to look at it."""

    self_: str = Field(alias="self")


class Links(SelfLink):
    """Where to go from here."""

    events: str = Field(description="What happened to it.")


#: The parameter of every path below a request. Its routes take nothing but a UUID: else `/assistance/batch` would be
#: one of them too, for the methods that it does not take itself.
REQUEST_ID = Parameter(
    name="request_id",
    place="path",
    description="The id from the answer to the submission.",
    schema={"type": "string", "format": "uuid"},
    example="01a1fc7e-2ccd-784a-8c72-549b47e809ff",
)
SELF = f"/assistance/{REQUEST_ID.example}"


def with_topic(example: Any, topics: Sequence[str]) -> Any:
    """An example as it works here: with a topic that exists."""
    if isinstance(example, Mapping):
        changed = {name: with_topic(value, topics) for name, value in example.items()}
        if "topic" in changed and topics and changed["topic"] not in topics:
            changed["topic"] = topics[0]
        return changed
    if isinstance(example, list | tuple):
        return [with_topic(item, topics) for item in example]
    return example
