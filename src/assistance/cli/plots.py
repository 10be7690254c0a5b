"""Small plots of one line, for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_BLOCKS = "▁▂▃▄▅▆▇█"
_LETTERS = "_.:-=+*#"

Values = Sequence[float | None]


def plot(values: Values, *, ascii_only: bool = False) -> str:
    """One character for each value, the higher the more; a space where there is none.

    The lowest character stands for nothing at all, so that little can be told from nothing.
    """
    marks = _LETTERS if ascii_only else _BLOCKS
    most = max((value for value in values if value is not None), default=0)
    return "".join(" " if value is None else marks[_height(value, most, len(marks))] for value in values)


def gathered(values: Values, width: int, gather: Callable[[Sequence[float]], float]) -> list[float | None]:
    """As many values as have room in `width` characters: neighbours become what `gather` makes of them."""
    per_mark = -(-len(values) // width)
    groups = [values[place : place + per_mark] for place in range(0, len(values), per_mark)] if values else []
    known = [[value for value in group if value is not None] for group in groups]
    return [gather(group) if group else None for group in known]


def _height(value: float, most: float, heights: int) -> int:
    if value <= 0:
        return 0
    return max(1, round(value / most * (heights - 1)))
