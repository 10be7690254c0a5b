"""How the mistakes in a body are told: a JSON pointer, a stable code and one sentence each."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from assistance.api.problems import LONGEST_ECHO, FieldError, shown
from assistance.api.schema.members import (
    Attachment,
    Bot,
    Conversation,
    Customer,
    SubmissionBody,
    TranscriptEntry,
)

#: A body full of mistakes is answered with the first of them only.
_MOST_ERRORS = 50
MOST_UNKNOWN_MEMBERS = 20
#: What pydantic calls a mistake, and what we call it; `{…}` is filled in from its context.
_PYDANTIC_ERRORS = {
    "missing": ("required", "is missing"),
    "string_type": ("not-a-string", "has to be a string"),
    "float_type": ("not-a-number", "has to be a number"),
    "list_type": ("not-a-list", "has to be a list"),
    "dict_type": ("not-an-object", "has to be an object"),
    "model_type": ("not-an-object", "has to be an object"),
    "too_short": ("too-few", "has fewer than {min_length} entries"),
    "too_long": ("too-many", "has more than {max_length} entries"),
    "greater_than_equal": ("out-of-range", "has to be {ge:g} or more"),
    "less_than_equal": ("out-of-range", "has to be {le:g} or less"),
    "enum": ("not-allowed", "has to be {expected}"),
}
Place = tuple[int | str, ...]
Objects = Mapping[tuple[str, ...], type[BaseModel]]

#: The objects within a body, by the names on the way to them.
_OBJECTS: Objects = {
    (): SubmissionBody,
    ("customer",): Customer,
    ("conversation",): Conversation,
    ("conversation", "transcript"): TranscriptEntry,
    ("bot",): Bot,
    ("attachments",): Attachment,
}


def field_errors(error: ValidationError, objects: Objects | None = None) -> list[FieldError]:
    """What pydantic found, in our words; bounded, whatever was sent. `objects`: of another body than a submission's."""
    found: list[FieldError] = []
    unknown = 0
    for item in error.errors(include_url=False, include_input=False):
        if item["type"] == "extra_forbidden":
            unknown += 1
            if unknown <= MOST_UNKNOWN_MEMBERS:
                found.append(unknown_member(item["loc"], objects))
        else:
            found.append(_field_error(item["loc"], item["type"], item["msg"], item.get("ctx", {})))
    return found[:_MOST_ERRORS]


def unknown_member(place: Place, objects: Objects | None = None) -> FieldError:
    """The mistake of a member that does not exist, with the name that was probably meant."""
    name = str(place[-1])
    near = difflib.get_close_matches(name[:LONGEST_ECHO], list(_names_at(place[:-1], objects or _OBJECTS)), n=1)
    hint = f" Did you mean {shown(near[0])}?" if near else ""
    where = f" in {_path(place[:-1])}" if len(place) > 1 else ""
    return FieldError(
        pointer=pointer(place), code="unknown-member", message=f"No member {shown(name)} is known{where}.{hint}"
    )


def illegible_member(place: Place) -> FieldError:
    """The mistake of a member whose name is no text, wherever it stands."""
    if _names(place[:-1]) in _OBJECTS:
        return unknown_member(place)
    message = f"The name {shown(str(place[-1]))} in {_path(place[:-1])} holds half of a surrogate pair."
    return FieldError(pointer=pointer(place), code="character", message=message)


def pointer(place: Place) -> str:
    """The JSON pointer; it ends before a name that cannot be repeated."""
    found = ""
    for step in place:
        if isinstance(step, str) and not _is_sayable(step):
            break
        found += "/" + str(step).replace("~", "~0").replace("/", "~1")
    return found


def illegible_names(value: Any, place: Place = ()) -> Iterator[Place]:
    """The places of members whose names hold half a surrogate pair: pydantic reports nothing else once it meets one."""
    members: Iterator[tuple[int | str, Any]] = iter(())
    if isinstance(value, dict):
        members = iter(value.items())
    elif isinstance(value, list):
        members = iter(enumerate(value))
    for name, inner in members:
        if isinstance(name, str) and not is_legible(name):
            yield (*place, name)
        else:
            yield from illegible_names(inner, (*place, name))


def without_illegible_names(value: Any) -> Any:
    """The body as it would be without those members."""
    if isinstance(value, dict):
        return {name: without_illegible_names(inner) for name, inner in value.items() if is_legible(name)}
    return [without_illegible_names(inner) for inner in value] if isinstance(value, list) else value


def is_legible(name: str) -> bool:
    """Whether the name can be written in UTF-8."""
    return name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)


def _field_error(place: Place, kind: str, message: str, context: Mapping[str, Any]) -> FieldError:
    code, text = _PYDANTIC_ERRORS.get(kind, (kind, message))
    if kind in _PYDANTIC_ERRORS:
        text = text.format_map(context)
    if place[-1:] == ("[key]",) and len(place) > 1:
        # The name itself is at fault, which pydantic says by an extra step.
        return FieldError(
            pointer=pointer(place[:-1]), code=code, message=f"The name {shown(str(place[-2]))} in metadata {text}."
        )
    return FieldError(pointer=pointer(place), code=code, message=f"The {_path(place)} {text}.")


def _names_at(place: Place, objects: Objects) -> Iterator[str]:
    for name, field in objects[_names(place)].model_fields.items():
        yield field.alias or name


def _names(place: Place) -> tuple[str, ...]:
    return tuple(step for step in place if isinstance(step, str))


def _path(place: Place) -> str:
    """The way to a member as people write it: `conversation.transcript[3].text`."""
    path = ""
    for step in place:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            path += ("." if path else "") + (step if _is_sayable(step) else "…")
    return path


def _is_sayable(name: str) -> bool:
    return name.isprintable() and len(name) <= LONGEST_ECHO
