"""Templates: text with places for values of a payload, such as `"{repository.full_name}: {issue.title}"`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_PIECE = re.compile(r"(\{\{|\}\})|\{([^{}]*)\}|([^{}]+)|([{}])")
_NAME = re.compile(r"[^\s{}.?]+(?: +[^\s{}.?]+)*")


@dataclass(frozen=True, slots=True)
class Path:
    """Where a value lies in a payload: names of members, and numbers of items from 0."""

    names: tuple[str, ...]
    optional: bool = False

    def __str__(self) -> str:
        return ".".join(self.names)


@dataclass(frozen=True, slots=True)
class Template:
    """Text and paths, in their order."""

    pieces: tuple[str | Path, ...]

    @property
    def literal(self) -> str | None:
        """The whole text where nothing is taken from the payload, else none."""
        texts = [piece for piece in self.pieces if isinstance(piece, str)]
        return "".join(texts) if len(texts) == len(self.pieces) else None


def parse_path(text: str) -> Path:
    """A path such as `issue.title` or `entry.0.id`; one that ends with `?` may lead nowhere.

    Raises `ValueError` with the end of a sentence.
    """
    names = tuple(text.removesuffix("?").split("."))
    if not all(_NAME.fullmatch(name) for name in names):
        raise ValueError(f"holds {text!r}, which is not a path such as issue.title or entry.0.id")
    return Path(names, optional=text.endswith("?"))


def parse_template(text: str) -> Template:
    """A template; `{{` and `}}` stand for the braces themselves. Raises `ValueError` with the end of a sentence."""
    pieces: list[str | Path] = []
    for brace, path, literal, stray in _PIECE.findall(text):
        if stray:
            raise ValueError(f"has a lonely {stray!r}: write {stray + stray!r} for the brace itself")
        if brace or literal:
            pieces.append(brace[:1] or literal)
        else:
            pieces.append(parse_path(path))
    return Template(tuple(pieces))


def parse_pattern(value: object) -> Any:
    """A value of the file with a `Template` in place of each text, also within lists and tables.

    Raises `ValueError` with the end of a sentence.
    """
    if isinstance(value, str):
        return parse_template(value)
    if isinstance(value, Mapping):
        return {str(name): parse_pattern(item) for name, item in value.items()}
    if isinstance(value, list):
        return [parse_pattern(item) for item in value]
    if isinstance(value, bool | int | float):
        return value
    raise ValueError("is not a text, a number, true or false, a list or a table")


def text_of(value: object) -> str | None:
    """A single value as text, as JSON writes it; none for what is no single value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value) if isinstance(value, int | float) else None
