"""The body of `POST /assistance`: what it may hold, and every mistake in it reported at once."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictStr, ValidationError
from pydantic_core import PydanticCustomError

from assistance.api.problems import LONGEST_ECHO, UNKNOWN_TOPIC, VALIDATION_FAILED, FieldError, Problem, shown
from assistance.domain.request import Submission

MAX_TOPIC = 64
MAX_DESCRIPTION = 4_000
#: A body full of unknown members is answered with the first of them only.
_MOST_UNKNOWN_MEMBERS = 20
#: JSON can spell half of a surrogate pair, which no encoding can store; pydantic lets it pass.
_REFUSED_IN_TOPIC = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_REFUSED_IN_DESCRIPTION = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_LINE_END = re.compile(r"\r\n?")
#: What pydantic calls a mistake, and what we call it.
_PYDANTIC_ERRORS = {
    "missing": ("required", "is missing"),
    "string_type": ("not-a-string", "has to be a string"),
}


def _topic(text: str) -> str:
    # White space is trimmed by hand first: `strip` alone would take some control characters along with it.
    _refuse_characters(text.strip(" \t\r\n"), _REFUSED_IN_TOPIC)
    topic = text.strip()
    _check_length(topic, MAX_TOPIC)
    return topic.casefold()


def _description(text: str) -> str:
    text = _LINE_END.sub("\n", text)
    _refuse_characters(text, _REFUSED_IN_DESCRIPTION)
    _check_length(text, MAX_DESCRIPTION)
    return text


def _refuse_characters(text: str, refused: re.Pattern[str]) -> None:
    if found := refused.search(text):
        raise PydanticCustomError("character", f"holds U+{ord(found[0]):04X}, which is not allowed")


def _check_length(text: str, most: int) -> None:
    if not text.strip():
        raise PydanticCustomError("empty", "is empty")
    if len(text) > most:
        raise PydanticCustomError("too-long", f"has {len(text)} characters, {most} are allowed")


class SubmissionBody(BaseModel):
    """A request for assistance."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    topic: Annotated[
        StrictStr,
        AfterValidator(_topic),
        Field(
            description="What it is about; decides who is told. Surrounding white space and case do not matter.",
            json_schema_extra={"minLength": 1, "maxLength": MAX_TOPIC},
            examples=["sales"],
        ),
    ]
    description: Annotated[
        StrictStr,
        AfterValidator(_description),
        Field(
            description="What is needed, as plain text. Line ends become \\n; other control characters except "
            "the tabulator are refused.",
            json_schema_extra={"minLength": 1, "maxLength": MAX_DESCRIPTION},
            examples=["Customer wants a quote for 40 seats"],
        ),
    ]


def parse_submission(body: Any, topics: Sequence[str]) -> Submission:
    """Turn the JSON body into a submission to one of `topics`.

    Raises `Problem` with every mistake: unknown-topic if that is the only one, else validation-failed.
    """
    if not isinstance(body, dict):
        error = FieldError(pointer="", code="not-an-object", message="The body has to be a JSON object.")
        raise Problem(VALIDATION_FAILED, error.message, errors=[error])
    errors: list[FieldError] = []
    known = {name: body[name] for name in SubmissionBody.model_fields if name in body}
    parsed: SubmissionBody | None = None
    try:
        parsed = SubmissionBody.model_validate(known)
    except ValidationError as error:
        errors += [_field_error(str(item["loc"][0]), item["type"], item["msg"]) for item in error.errors()]
    topic = parsed.topic if parsed else _valid_topic(known)
    if topic is not None and topic not in topics:
        errors.append(_unknown_topic_error(topic, topics))
    errors += [_unknown_member_error(name) for name in [n for n in body if n not in known][:_MOST_UNKNOWN_MEMBERS]]
    if errors or parsed is None:
        raise _problem(errors, topics)
    return Submission(topic=parsed.topic, description=parsed.description)


def unknown_topic(topic: str, topics: Sequence[str]) -> Problem:
    """The problem for a topic that nobody is told about."""
    return _problem([_unknown_topic_error(topic, topics)], topics)


def _valid_topic(known: dict[str, Any]) -> str | None:
    """The topic of a body that is wrong elsewhere, so that an unknown one is reported together with the rest."""
    try:
        return SubmissionBody.model_validate({"topic": known.get("topic"), "description": "-"}).topic
    except ValidationError:
        return None


def _problem(errors: Sequence[FieldError], topics: Sequence[str]) -> Problem:
    of_topic = any(error.code == "unknown-topic" for error in errors)
    return Problem(
        UNKNOWN_TOPIC if of_topic and len(errors) == 1 else VALIDATION_FAILED,
        " ".join(error.message for error in errors[:3]) + (" …" if len(errors) > 3 else ""),
        errors=errors,
        allowed=sorted(topics) if of_topic else None,
    )


def _field_error(name: str, kind: str, message: str) -> FieldError:
    code, text = _PYDANTIC_ERRORS.get(kind, (kind, message))
    return FieldError(pointer=f"/{name}", code=code, message=f"The {name} {text}.")


def _unknown_topic_error(topic: str, topics: Sequence[str]) -> FieldError:
    near = difflib.get_close_matches(topic, topics, n=1)
    hint = f" Did you mean {shown(near[0])}?" if near else ""
    return FieldError(pointer="/topic", code="unknown-topic", message=f"No topic {shown(topic)} is configured.{hint}")


def _unknown_member_error(name: str) -> FieldError:
    near = difflib.get_close_matches(name[:LONGEST_ECHO], list(SubmissionBody.model_fields), n=1)
    hint = f" Did you mean {shown(near[0])}?" if near else ""
    # A name that cannot be repeated cannot be pointed at either: then the pointer is that of the whole body.
    sayable = name.isprintable() and len(name) <= LONGEST_ECHO
    pointer = "/" + name.replace("~", "~0").replace("/", "~1") if sayable else ""
    return FieldError(pointer=pointer, code="unknown-member", message=f"No member {shown(name)} is known.{hint}")
