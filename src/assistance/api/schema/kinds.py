"""The kinds of values in a body: texts, instants, addresses. Each is checked here and describes itself for OpenAPI.

Every kind of text refuses what no message could show or no table could store: control characters, and the halves of
surrogate pairs, which JSON can spell and pydantic lets pass.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import urlsplit

from email_validator import EmailNotValidError, validate_email
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from assistance.api.answers import instant

MAX_URL = 2_048
MAX_EMAIL = 254
MAX_MEDIA_TYPE = 255
MAX_METADATA_TEXT = 512
#: The largest number that every JSON library reads as it was written (RFC 8259, section 6).
MAX_NUMBER = 2**53 - 1

_REFUSED = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_REFUSED_IN_LINES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
#: White space that is no control character, and the three of those that any editor leaves at an end.
_BLANK = (
    " \t\r\n\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_LINE_END = re.compile(r"\r\n?")
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d{1,6})?\d*([Zz]|[+-]\d\d:\d\d)", re.ASCII)
#: Hosts as RFC 3986 has them; what follows may hold what browsers send as it is, such as |.
_WEB_ADDRESS = re.compile(
    r"[Hh][Tt][Tt][Pp][Ss]?://([A-Za-z0-9._~!$&'()*+,;=%\-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{0,5})?([/?#][!-~]*)?"
)
_MEDIA_TYPE = re.compile(r"[!#$&^_.+\-A-Za-z0-9]+/[!#$&^_.+\-A-Za-z0-9]+( *;[ -~]*)?")


class _Kind:
    """A mark for `Annotated`: a JSON string, and what `check` makes of it.

    `check` raises `PydanticCustomError` with our code and the end of a sentence that begins with the member's name.
    `written` turns what is kept into JSON again, where that is no text.
    """

    written: ClassVar[core_schema.SerSchema | None] = None

    def check(self, text: str) -> Any:
        """The value to keep."""
        raise NotImplementedError

    def description(self) -> dict[str, Any]:
        """The JSON Schema."""
        raise NotImplementedError

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        text = core_schema.str_schema(strict=True)
        return core_schema.no_info_after_validator_function(self.check, text, serialization=self.written)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", **self.description()}


@dataclass(frozen=True, slots=True)
class Text(_Kind):
    """Text of at most `longest` characters, kept as it is: one line, or with `lines` several.

    Every kind of line end becomes a line feed. White space alone is no text unless it may be `blank`.
    """

    longest: int
    lines: bool = False
    blank: bool = False

    def check(self, text: str) -> str:
        """The text, with one kind of line end."""
        if self.lines:
            text = _LINE_END.sub("\n", text)
        refuse_characters(text, _REFUSED_IN_LINES if self.lines else _REFUSED)
        if not self.blank and not text.strip():
            raise PydanticCustomError("empty", "is empty")
        if len(text) > self.longest:
            raise _too_long(text, self.longest)
        return text

    def description(self) -> dict[str, Any]:
        """Lengths in characters, and which of them are refused."""
        shown = r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]" if self.lines else r"[^\x00-\x1f\x7f-\x9f]"
        limits = {"minLength": 0 if self.blank else 1, "maxLength": self.longest}
        return {**limits, "pattern": rf"^{shown}*$" if self.blank else rf"^{shown}*[^\s\x00-\x1f\x7f-\x9f]{shown}*$"}


@dataclass(frozen=True, slots=True)
class Topic(_Kind):
    """A line whose surrounding white space and case do not matter."""

    longest: int

    def check(self, text: str) -> str:
        """The topic, trimmed and case-folded."""
        # `strip` alone would take some control characters along with the white space.
        return Text(self.longest).check(text.strip(_BLANK)).casefold()

    def description(self) -> dict[str, Any]:
        """What is left within the white space; the topics that exist are in the operator's file."""
        first_or_last, between = r"[^\s\x00-\x1f\x7f-\x9f]", r"[^\x00-\x1f\x7f-\x9f]"
        trimmed = f"{first_or_last}({between}{{0,{self.longest - 2}}}{first_or_last})?"
        return {"pattern": f"^[{_BLANK}]*{trimmed}[{_BLANK}]*$"}


@dataclass(frozen=True, slots=True)
class Word(_Kind):
    """One of these words."""

    words: tuple[str, ...]

    def check(self, text: str) -> str:
        """The word."""
        if text not in self.words:
            raise PydanticCustomError("not-allowed", f"has to be one of: {', '.join(self.words)}")
        return text

    def description(self) -> dict[str, Any]:
        """The words."""
        return {"enum": list(self.words)}


class Instant(_Kind):
    """A moment as RFC 3339 writes it, with its offset; kept in UTC, to the microsecond."""

    written = core_schema.plain_serializer_function_ser_schema(instant)

    def check(self, text: str) -> datetime:
        """The moment."""
        try:
            if not (parts := _INSTANT.fullmatch(text)):
                raise ValueError
            day, time, fraction, offset = parts.groups(default="")
            return datetime.fromisoformat(f"{day}T{time}{fraction}{offset.upper()}").astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise PydanticCustomError(
                "not-a-time", "has to be a time with its offset, such as 2026-03-04T14:02:00Z"
            ) from error

    def description(self) -> dict[str, Any]:
        """The format of that name."""
        return {"format": "date-time", "examples": ["2026-03-04T14:02:00Z"]}


class WebAddress(_Kind):
    """A URL that may be shown to people or called; who is behind it is not looked at here."""

    def check(self, text: str) -> str:
        """The URL."""
        if len(text) > MAX_URL:
            raise _too_long(text, MAX_URL)
        if not _is_web_address(text):
            raise PydanticCustomError(
                "url", "has to be a URL such as https://host/path, in printable ASCII and without a password"
            )
        return text

    def description(self) -> dict[str, Any]:
        """The pattern that is checked; it is wider than the format `uri`."""
        return {"pattern": f"^{_WEB_ADDRESS.pattern}$", "maxLength": MAX_URL}


class EmailAddress(_Kind):
    """One address, without a display name; no server is asked."""

    def check(self, text: str) -> str:
        """The address, as it was written."""
        try:
            if len(text) > MAX_EMAIL:
                raise _too_long(text, MAX_EMAIL)
            validate_email(text, check_deliverability=False, test_environment=True)
        except EmailNotValidError as error:
            raise PydanticCustomError("email", "is no e-mail address") from error
        return text

    def description(self) -> dict[str, Any]:
        """The format of that name."""
        return {"format": "email", "maxLength": MAX_EMAIL}


class MediaType(_Kind):
    """A media type, which may have parameters."""

    def check(self, text: str) -> str:
        """The media type."""
        if len(text) > MAX_MEDIA_TYPE:
            raise _too_long(text, MAX_MEDIA_TYPE)
        if not _MEDIA_TYPE.fullmatch(text):
            raise PydanticCustomError("media-type", "has to be a media type such as application/pdf")
        return text

    def description(self) -> dict[str, Any]:
        """The pattern that is checked."""
        return {"pattern": f"^{_MEDIA_TYPE.pattern}$", "maxLength": MAX_MEDIA_TYPE}


class Plain:
    """A mark for `Annotated`: a value of the bot's own, which we only hand on."""

    text = Text(MAX_METADATA_TEXT, lines=True, blank=True)

    def check(self, value: Any) -> Any:
        """The value: a text, a number or a boolean."""
        if isinstance(value, str):
            return self.text.check(value)
        if not isinstance(value, bool | int | float):
            raise PydanticCustomError("not-plain", "has to be a string, a number or a boolean")
        if abs(value) > MAX_NUMBER:
            raise PydanticCustomError("out-of-range", "is a number too large to be kept exactly; send it as a string")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        number = {"type": "number", "minimum": -MAX_NUMBER, "maximum": MAX_NUMBER}
        return {"anyOf": [{"type": "string", **self.text.description()}, number, {"type": "boolean"}]}


def refuse_characters(text: str, refused: re.Pattern[str]) -> None:
    """Raises `PydanticCustomError` that names the first character of `text` which is refused."""
    if found := refused.search(text):
        raise PydanticCustomError("character", f"holds U+{ord(found[0]):04X}, which is not allowed")


def _too_long(text: str, most: int) -> PydanticCustomError:
    return PydanticCustomError("too-long", f"has {len(text)} characters, {most} are allowed")


def _is_web_address(text: str) -> bool:
    if not _WEB_ADDRESS.fullmatch(text):
        return False
    try:
        _ = urlsplit(text).port  # raises when there is no such port, or no such address in the brackets
    except ValueError:
        return False
    return True
