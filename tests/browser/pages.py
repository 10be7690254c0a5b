"""The pages of the console, as the tests that look at all of them walk through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Those that the navigation leads to, and one behind it.
PAGES = {
    "overview": "/",
    "requests": "/requests",
    "dead-letters": "/dead",
    "channels": "/channels",
    "channel": "/channels/field-service",
    "pipeline": "/pipeline",
    "operations": "/operations",
}


def every_page(request: Mapping[str, Any]) -> dict[str, str]:
    """These, what they lead to, and the page of this request."""
    return {**PAGES, "letters": "/dead?view=rows", "audit": "/audit", "request": f"/requests/{request['id']}"}
