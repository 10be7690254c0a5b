"""What is left of a client's calls, as the headers of an answer tell it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowance:
    """Where a client stands once a call was counted, or refused."""

    admitted: bool
    quota: int  # calls a minute
    remaining: int  # calls that would be admitted now
    reset_seconds: float  # until the whole quota is there again; when nothing remains, until one more call is admitted
