"""`Retry-After` in every form that servers write it (RFC 9110, section 10.2.3)."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime

from assistance.runtime.clock import utc_now

#: "0", or a date in the past, must not make us hammer; and nobody may make us wait for days with one header.
_SHORTEST_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 900.0
_SECONDS = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


def seconds_asked_for(value: str | None, *, most: float = LONGEST_WAIT_SECONDS) -> float | None:
    """The waiting time that a header's value asks for, in seconds or until a date, between 1 s and `most`.

    None when it says nothing that can be understood.
    """
    value = (value or "").strip()
    if _SECONDS.fullmatch(value):
        seconds = float(value)
    else:
        try:
            seconds = (parsedate_to_datetime(value) - utc_now()).total_seconds()
        except (ValueError, TypeError, IndexError, OverflowError):  # what the parser raises for other text
            return None
    return min(max(seconds, _SHORTEST_SECONDS), most)
