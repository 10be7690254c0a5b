"""The mistakes of a file: all of them, one sentence each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from assistance.configuration.values import did_you_mean


@dataclass
class Mistakes:
    """Collects every mistake instead of stopping at the first."""

    sentences: list[str] = field(default_factory=list)

    def tell(self, where: str, what: str) -> None:
        """There is a mistake; a place and what is wrong there make a sentence."""
        self.sentences.append(f"{where} {what}.")

    def value(self, where: str, value: object, parse: Callable[[Any], Any]) -> Any:
        """What `parse` makes of a value; none when it is wrong, which is told."""
        try:
            return parse(value)
        except (ValueError, TypeError) as error:
            self.tell(where, str(error))
            return None

    def is_table(self, where: str, value: object) -> bool:
        """Whether the value is a table; told once if it is not."""
        if not isinstance(value, dict) and f"{where} is not a table." not in self.sentences:
            self.tell(where, "is not a table")
        return isinstance(value, dict)

    def check_keys(self, where: str, found: Iterable[str], allowed: Collection[str]) -> None:
        """Tell of every key that does not belong there."""
        for key in found:
            if key not in allowed:
                self.tell(f"{where} {key}", f"is not a key{did_you_mean(key, allowed)}")
