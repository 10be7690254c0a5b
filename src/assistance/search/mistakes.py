"""What is wrong with a filter."""

from __future__ import annotations

from assistance.domain.errors import AssistanceError

_LONGEST_ECHO = 80


class FilterMistake(AssistanceError):
    """A filter makes no sense; `why` is the end of a sentence that begins with its name."""

    def __init__(self, name: str, value: str, why: str) -> None:
        super().__init__(f"The filter {name} {why}.")
        self.name = name
        self.value = value if len(value) <= _LONGEST_ECHO else f"{value[:_LONGEST_ECHO]}…"
        self.why = why
