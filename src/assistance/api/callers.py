"""Who makes the call that is being answered, and whether they may."""

from __future__ import annotations

import flask

from assistance.domain.caller import ANONYMOUS, Caller


def the_caller() -> Caller:
    """The caller of the call being answered."""
    found: Caller = flask.g.get("caller", ANONYMOUS)
    return found
