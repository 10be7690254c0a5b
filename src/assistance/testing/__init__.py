"""What an author of a channel type tests with: servers that misbehave on demand, and the contract as a test class.

The contract needs pytest; the servers need nothing but the standard library. They listen on loopback only.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assistance.testing.behaviour import Provider, Trouble
    from assistance.testing.channel_contract import ChannelContract, example_view, new_key
    from assistance.testing.http_server import FakeHttpServer
    from assistance.testing.kit import contract_for
    from assistance.testing.slack_server import FakeSlack
    from assistance.testing.smtp_server import FakeSmtp

__all__ = [
    "ChannelContract",
    "FakeHttpServer",
    "FakeSlack",
    "FakeSmtp",
    "Provider",
    "Trouble",
    "contract_for",
    "example_view",
    "new_key",
]

_CONTRACT = "channel_contract"
_PLACES = {
    "ChannelContract": _CONTRACT,
    "FakeHttpServer": "http_server",
    "FakeSlack": "slack_server",
    "FakeSmtp": "smtp_server",
    "Provider": "behaviour",
    "Trouble": "behaviour",
    "contract_for": "kit",
    "example_view": _CONTRACT,
    "new_key": _CONTRACT,
}


def __getattr__(name: str) -> Any:
    """Import what is asked for and nothing else: who only wants a server needs no pytest."""
    if name not in _PLACES:
        raise AttributeError(name)
    contract = f"{__name__}.{_CONTRACT}"
    if _PLACES[name] in (_CONTRACT, "kit") and contract not in sys.modules:
        import pytest

        pytest.register_assert_rewrite(contract)  # a broken promise then shows its values
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
