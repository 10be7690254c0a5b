"""A command that asks for the same again, to try things out."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

#: What a repeat must not take along, because it would join, expire or call back the request that it was made of.
LEFT_OUT = "dedup_key, not_before, expires_at and callback_url"
_MEMBERS = ("topic", "description", "title", "priority", "customer", "bot", "conversation", "attachments", "metadata")


def curl_of(request: Mapping[str, Any], address: str) -> str:
    """The call for a shell; the key is left to the variable `ASSISTANCE_KEY`. `address` is that of the API."""
    body = {name: request[name] for name in _MEMBERS if request[name] not in (None, {}, [])}
    if request["transcript"]:
        body["conversation"] = {**body.get("conversation", {}), "transcript": request["transcript"]}
    if body.get("priority") == "normal":
        del body["priority"]
    # ASCII, so that no character of a customer's can make the command look like another one.
    return " \\\n  ".join(
        (
            f"curl -i {shlex.quote(address.rstrip('/') + '/assistance')}",
            '-H "Authorization: Bearer $ASSISTANCE_KEY"',
            "-H 'Content-Type: application/json'",
            f"-d {shlex.quote(json.dumps(body))}",
        )
    )
