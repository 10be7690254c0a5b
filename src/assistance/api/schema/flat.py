"""Bodies with a few members and nothing inside them."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from assistance.api.problem_types import VALIDATION_FAILED
from assistance.api.problems import FieldError, Problem
from assistance.api.schema.mistakes import (
    Objects,
    field_errors,
    illegible_names,
    unknown_member,
    without_illegible_names,
)

Body = TypeVar("Body", bound=BaseModel)


def parse_flat(body: Any, model: type[Body]) -> Body:
    """The body as `model`, none of whose members is an object. Raises `Problem` with every mistake."""
    if not isinstance(body, dict):
        error = FieldError(pointer="", code="not-an-object", message="The body has to be a JSON object.")
        raise Problem(VALIDATION_FAILED, error.message, errors=[error])
    objects: Objects = {(): model}
    errors = [unknown_member(place, objects) for place in illegible_names(body) if len(place) == 1]
    try:
        parsed = model.model_validate(without_illegible_names(body) if errors else body)
    except ValidationError as error:
        errors += field_errors(error, objects)
    if errors:
        detail = " ".join(error.message for error in errors[:3]) + (" …" if len(errors) > 3 else "")
        raise Problem(VALIDATION_FAILED, detail, errors=errors)
    return parsed
