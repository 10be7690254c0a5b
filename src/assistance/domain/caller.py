"""Who calls the API, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """What a credential allows."""

    SUBMIT = "submit"  # ask for assistance, add to one's own requests and cancel them
    READ = "read"  # see one's own requests
    VIEW = "view"  # see the requests of everybody; holds `read`
    OPERATE = "operate"  # act on the requests of everybody; holds the three above
    ADMIN = "admin"  # everything


_HELD = {
    Scope.VIEW: frozenset({Scope.READ}),
    Scope.OPERATE: frozenset({Scope.SUBMIT, Scope.READ, Scope.VIEW}),
    Scope.ADMIN: frozenset(Scope),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """The client behind a call. A client sees its own requests only, viewers and operators those of everybody."""

    client: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Whether it may do what this scope stands for, by that scope or by one that holds it."""
        return scope in self.scopes or any(scope in _HELD.get(own, ()) for own in self.scopes)

    @property
    def sees(self) -> str | None:
        """The client whose requests it may see; none means everybody's."""
        return None if self.may(Scope.VIEW) else self.client


#: Whoever calls while no client is configured, from the loopback address only.
ANONYMOUS = Caller(client="", scopes=frozenset(Scope))
