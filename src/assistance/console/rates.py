"""How fast an act on many things goes: what forms ask for."""

from __future__ import annotations

from collections.abc import Mapping

from assistance.operating.jobs import FASTEST_PER_SECOND
from assistance.search.mistakes import FilterMistake

DEFAULT_PER_SECOND = 10.0


def per_second_in(form: Mapping[str, str]) -> float:
    """The rate that a form asks for. Raises `FilterMistake`."""
    written = form.get("per_second", "").strip()
    if not written:
        return DEFAULT_PER_SECOND
    try:
        rate = float(written)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= FASTEST_PER_SECOND:
        raise FilterMistake("per_second", written, f"is a number above 0 and at most {FASTEST_PER_SECOND:g}")
    return rate
