"""From the bytes of an authentic message to a submission, as the source's table `request` says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from assistance.configuration import SourceSettings
from assistance.configuration.templates import Path, Template, text_of
from assistance.domain.errors import Unmappable
from assistance.domain.request import Submission

_FORM = "application/x-www-form-urlencoded"
#: Slack's interactions and GitHub's forms hold their JSON in a field of this name, alone.
_FORM_FIELD = "payload"
_MOST_FIELDS = 200


class Mapper:
    """Makes submissions; `read_json` and `to_submission` are those of the API and raise `Unmappable`."""

    def __init__(self, read_json: Callable[[bytes], Any], to_submission: Callable[[Any], Submission]) -> None:
        self._read_json = read_json
        self._to_submission = to_submission

    def payload(self, content_type: str, body: bytes) -> Mapping[str, Any]:
        """What a message says: a JSON object, or the fields of a form. Raises `Unmappable`."""
        if content_type.partition(";")[0].strip().lower() != _FORM:
            return self._json_object(body)
        fields = _form(body)
        return self._json_object(fields[_FORM_FIELD].encode()) if fields.keys() == {_FORM_FIELD} else fields

    def submission(self, settings: SourceSettings, payload: Mapping[str, Any]) -> Submission | None:
        """The submission that a payload asks for; none when the source wants no such payload.

        Raises `Unmappable`.
        """
        for path, texts in settings.only:
            if text_of(_value(path, payload)) not in texts:
                return None
        return self._to_submission(_filled(settings.request, payload))

    def _json_object(self, body: bytes) -> Mapping[str, Any]:
        value = self._read_json(body)
        if not isinstance(value, dict):
            raise Unmappable("The body is not a JSON object.")
        return value


def _form(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise Unmappable("The body is not a form in UTF-8.") from error
    if len(fields := dict(pairs)) != len(pairs):
        raise Unmappable("A field of the form occurs twice.")
    return fields


def _filled(pattern: Any, payload: Mapping[str, Any]) -> Any:
    """The pattern with the payload's values; a member of which nothing is left is left out."""
    if isinstance(pattern, Template):
        return "".join(piece if isinstance(piece, str) else _text(piece, payload) for piece in pattern.pieces)
    if isinstance(pattern, Mapping):
        members = {name: _filled(item, payload) for name, item in pattern.items()}
        return {name: item for name, item in members.items() if item not in ("", {}, [])}
    if isinstance(pattern, list):
        return [item for each in pattern if (item := _filled(each, payload)) not in ("", {}, [])]
    return pattern


def _text(path: Path, payload: Mapping[str, Any]) -> str:
    value = _value(path, payload)
    if value is None and path.optional:
        return ""
    if (text := text_of(value)) is None:
        raise Unmappable(f"There is no {path}." if value is None else f"{path} is not a text.")
    return text


def _value(path: Path, payload: Mapping[str, Any]) -> Any:
    """What lies at a path; none when nothing does."""
    value: Any = payload
    for name in path.names:
        if isinstance(value, Mapping):
            value = value.get(name)
        elif isinstance(value, list) and name.isascii() and name.isdigit() and len(name) <= 4:
            value = value[int(name)] if int(name) < len(value) else None
        else:
            return None
    return value
