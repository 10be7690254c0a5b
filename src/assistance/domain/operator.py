"""The people who run an installation: what they may do, and who acts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from assistance.domain.caller import Caller, Scope


class Role(StrEnum):
    """What a person may do; each role holds those before it."""

    VIEWER = "viewer"  # look
    OPERATOR = "operator"  # look and act
    ADMIN = "admin"  # everything

    def holds(self, other: Role) -> bool:
        """Whether who has this role may do what the other one may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


def role_of(caller: Caller) -> Role | None:
    """The role that a credential gives to who holds it; none when it is for a bot."""
    for role, scope in ((Role.ADMIN, Scope.ADMIN), (Role.OPERATOR, Scope.OPERATE), (Role.VIEWER, Scope.VIEW)):
        if caller.may(scope):
            return role
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Actor:
    """Who acts, for the audit log: `via` is `console`, `command` or `api`, `request_id` that of the HTTP call."""

    name: str
    via: str
    request_id: str | None = None
