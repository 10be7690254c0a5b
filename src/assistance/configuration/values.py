"""Parsers of single values in the configuration file; each raises `ValueError` with the end of a sentence."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping

from assistance.domain.delivery import OnUnknown
from assistance.resilience.retry_schedule import RetrySchedule

#: Names of channels and sources.
NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)/(s|m|h)")
#: Instants that lie this far ahead or behind are still dates, for Python and for PostgreSQL.
_LONGEST_SECONDS = 87_600 * 3600.0
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: object) -> float:
    """Seconds in a duration such as `"300ms"`, `"5s"`, `"10m"`, `"24h"`.

    Raises `ValueError` with a sentence.
    """
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError('is not a duration such as "300ms", "5s", "10m" or "24h"')
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > _LONGEST_SECONDS:
        raise ValueError("is longer than ten years")
    return seconds


def parse_rate(text: object) -> float:
    """Messages per second in a rate such as `"1/s"` or `"30/m"`.

    Raises `ValueError` with a sentence.
    """
    match = _RATE.fullmatch(text) if isinstance(text, str) else None
    if match is None or float(match[1]) == 0:
        raise ValueError('is not a rate such as "1/s", "30/m" or "100/h"')
    return float(match[1]) / _UNITS[match[2]]


def positive_duration(value: object) -> float:
    """Seconds, more than none."""
    seconds = parse_duration(value)
    if seconds <= 0:
        raise ValueError("must be longer than nothing")
    return seconds


def durations(value: object) -> tuple[float, ...]:
    """Seconds of each, at least one."""
    if not isinstance(value, list) or not value:
        raise ValueError('is not a list of durations such as ["1s", "5s"]')
    return tuple(positive_duration(item) for item in value)


def count(value: object) -> int:
    """A small number of times."""
    if type(value) is not int or not 1 <= value <= 10:
        raise ValueError("is not a number from 1 to 10")
    return value


def fraction(value: object) -> float:
    """A part of something, less than all of it."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError("is not a number from 0 up to, but not including, 1")
    return float(value)


def on_unknown(value: object) -> OnUnknown:
    """What to do when nobody can tell whether a message arrived."""
    if value not in tuple(OnUnknown):
        raise ValueError(f"is {value!r}{did_you_mean(value, tuple(OnUnknown))}")
    return OnUnknown(str(value))


def channel_names(value: object) -> tuple[str, ...]:
    """One channel or several different ones."""
    names = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else ()
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise ValueError('names no channel: write "channel" or a list of different channels')
    return names


def one_of(schedules: Mapping[str, RetrySchedule]) -> Callable[[object], RetrySchedule]:
    """The schedule with the given name."""

    def parse(value: object) -> RetrySchedule:
        if not isinstance(value, str) or value not in schedules:
            raise ValueError(f"is {value!r}{did_you_mean(value, schedules)}")
        return schedules[value]

    return parse


def did_you_mean(written: object, allowed: Collection[str]) -> str:
    """What was probably meant, and all that is allowed."""
    near = difflib.get_close_matches(str(written), allowed, n=1)
    suggestion = f"; did you mean {str(near[0])!r}?" if near else ""
    return f"{suggestion} (allowed: {', '.join(sorted(allowed)) or 'none'})"
