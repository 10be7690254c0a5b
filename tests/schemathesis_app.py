"""The application as it is shipped, for made-up calls: no name leads anywhere, and nobody waits for having no key."""

from __future__ import annotations

from functools import partial
from unittest.mock import patch

from assistance import wsgi as shipped
from assistance.bootstrap.parts import announce
from assistance.channels.wire import Addresses, NotConnected
from assistance.intake.webhooks import Webhooks
from assistance.limits.strangers import StrangerLimit
from assistance.runtime.clock import Deadline
from assistance.settings import load_settings


def nowhere(host: str, _port: int, _deadline: Deadline) -> Addresses:
    """What a machine without the internet finds. Nothing made up may leave this one."""
    raise NotConnected("dns_error", f"the name {host} cannot be resolved")


_settings = load_settings()
announce(_settings, "api")
with (
    patch.object(shipped, "Webhooks", partial(Webhooks, find_public=nowhere)),
    patch.object(shipped, "StrangerLimit", partial(StrangerLimit, quota=1_000_000)),
):
    wsgi = shipped.build_app(_settings)
