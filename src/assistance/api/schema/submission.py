"""From the JSON of a body to a submission, or to one problem with every mistake."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from itertools import islice
from typing import Any

from pydantic import BaseModel, ValidationError

from assistance.api.problem_types import UNKNOWN_TOPIC, VALIDATION_FAILED
from assistance.api.problems import FieldError, Problem, shown
from assistance.api.schema.members import SubmissionBody
from assistance.api.schema.mistakes import (
    MOST_UNKNOWN_MEMBERS,
    field_errors,
    illegible_member,
    illegible_names,
    without_illegible_names,
)
from assistance.domain.request import Priority, Submission


def parse_submission(body: Any, topics: Sequence[str]) -> Submission:
    """Turn the JSON body into a submission to one of `topics`.

    Raises `Problem` with every mistake: unknown-topic if that is the only one, else validation-failed.
    """
    if not isinstance(body, dict):
        error = FieldError(pointer="", code="not-an-object", message="The body has to be a JSON object.")
        raise Problem(VALIDATION_FAILED, error.message, errors=[error])
    parsed, errors = _validated(body)
    topic = parsed.topic if parsed else _valid_topic(body)
    if topic is not None and topic not in topics:
        errors.insert(0, _unknown_topic_error(topic, topics))
    if errors or parsed is None:
        raise _problem(errors, topics)
    return _submission(parsed)


def unknown_topic(topic: str, topics: Sequence[str]) -> Problem:
    """The problem for a topic that nobody is told about."""
    return _problem([_unknown_topic_error(topic, topics)], topics)


def mistaken(pointer: str, code: str, message: str) -> Problem:
    """The problem for one member of a body that was found wrong only after it had been parsed."""
    return _problem([FieldError(pointer=pointer, code=code, message=message)], ())


def _validated(body: dict[str, Any]) -> tuple[SubmissionBody | None, list[FieldError]]:
    illegible = [illegible_member(place) for place in islice(illegible_names(body), MOST_UNKNOWN_MEMBERS)]
    try:
        return SubmissionBody.model_validate(without_illegible_names(body) if illegible else body), illegible
    except ValidationError as error:
        return None, field_errors(error) + illegible


def _submission(parsed: SubmissionBody) -> Submission:
    conversation = _json(parsed.conversation)
    transcript = conversation.pop("transcript", ())
    return Submission(
        topic=parsed.topic,
        description=parsed.description,
        title=parsed.title,
        priority=parsed.priority or Priority.NORMAL,
        customer=_json(parsed.customer),
        bot=_json(parsed.bot),
        conversation=conversation,
        transcript=transcript,
        attachments=[_json(attachment) for attachment in parsed.attachments or ()],
        metadata=parsed.metadata or {},
        dedup_key=parsed.dedup_key,
        not_before=parsed.not_before,
        expires_at=parsed.expires_at,
        callback_url=parsed.callback_url,
    )


def _json(members: BaseModel | None) -> dict[str, Any]:
    """The members that were given, as JSON values under their own names; instants become text in UTC."""
    return members.model_dump(mode="json", by_alias=True, exclude_none=True) if members else {}


def _valid_topic(body: dict[str, Any]) -> str | None:
    """The topic of a body that is wrong elsewhere, so that an unknown one is reported together with the rest."""
    try:
        return SubmissionBody.model_validate({"topic": body.get("topic"), "description": "-"}).topic
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


def _unknown_topic_error(topic: str, topics: Sequence[str]) -> FieldError:
    near = difflib.get_close_matches(topic, topics, n=1)
    hint = f" Did you mean {shown(near[0])}?" if near else ""
    return FieldError(pointer="/topic", code="unknown-topic", message=f"No topic {shown(topic)} is configured.{hint}")
