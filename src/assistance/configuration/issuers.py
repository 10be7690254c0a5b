"""The tables `[issuers.<name>]`: whose JSON Web Tokens are trusted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from assistance.configuration.mistakes import Mistakes
from assistance.configuration.model import IssuerSettings
from assistance.configuration.values import NAME
from assistance.runtime.addresses import is_loopback

_KEYS = ("issuer", "audience", "algorithms", "jwks", "secret", "client_claim", "scope_claim")
_WITH_KEY_SET = ("RS256", "ES256")
_WITH_SECRET = ("HS256",)
#: Clients of an issuer are called `<issuer>:<subject>`, and `source:<name>` is a signed source.
_RESERVED_NAMES = frozenset({"source"})
_REFERENCE = re.compile(r"(?:env|file):.+")


@dataclass
class IssuerReader:
    """Reads issuers; those with mistakes are told of."""

    mistakes: Mistakes

    def read(self, tables: Mapping[str, Mapping[str, Any]]) -> dict[str, IssuerSettings]:
        """The issuers by name."""
        found = [self._issuer(name, table) for name, table in tables.items()]
        issuers = {issuer.name: issuer for issuer in found if issuer}
        named = [issuer.issuer for issuer in issuers.values()]
        for name, issuer in issuers.items():
            if issuer.issuer is not None and named.count(issuer.issuer) > 1:
                self.mistakes.tell(f"[issuers.{name}] issuer", "is that of another table too")
        return issuers

    def _issuer(self, name: str, table: Mapping[str, Any]) -> IssuerSettings | None:
        where, value = f"[issuers.{name}]", self.mistakes.value
        if not NAME.fullmatch(name) or name in _RESERVED_NAMES:
            self.mistakes.tell(
                where, "is not an issuer name: a-z, 0-9 and -, starting with a letter, at most 40; not source"
            )
            return None
        self.mistakes.check_keys(where, table, _KEYS)
        if ("jwks" in table) == ("secret" in table):
            self.mistakes.tell(where, "needs either jwks or secret")
            return None
        allowed = _WITH_SECRET if "secret" in table else _WITH_KEY_SET

        def algorithms(written: object) -> tuple[str, ...]:
            named = tuple(written) if isinstance(written, list) else ()
            if not named or any(item not in allowed for item in named):
                raise ValueError(f"is not a list of {' and '.join(allowed)}, which is what its keys are for")
            return named

        return IssuerSettings(
            name=name,
            issuer=value(f"{where} issuer", table.get("issuer"), _text),
            audience=value(f"{where} audience", table.get("audience"), _text),
            algorithms=value(f"{where} algorithms", table.get("algorithms"), algorithms),
            jwks=value(f"{where} jwks", table["jwks"], _key_set) if "jwks" in table else None,
            secret=value(f"{where} secret", table["secret"], _reference) if "secret" in table else None,
            client_claim=value(f"{where} client_claim", table.get("client_claim", "sub"), _text),
            scope_claim=value(f"{where} scope_claim", table.get("scope_claim", "scope"), _text),
        )


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("is missing")
    return value


def _reference(value: object) -> str:
    if not isinstance(value, str) or not _REFERENCE.fullmatch(value):
        raise ValueError("is written env:NAME or file:PATH, never the secret itself")
    return value


def _key_set(value: object) -> str:
    if isinstance(value, str) and value.startswith("file:") and len(value) > len("file:"):
        return value
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
        trusted = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
        if trusted and parts.hostname and parts.username is None and parts.port != 0:
            return str(value)
    except ValueError:
        pass
    raise ValueError("is not https://…, http:// on this machine, or file:PATH")
