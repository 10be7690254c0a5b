"""The relay: as a process of its own, and its loop for others."""

from __future__ import annotations

import threading
from contextlib import ExitStack

from assistance.bootstrap.beating import beating
from assistance.bootstrap.measuring import serve_metrics
from assistance.bootstrap.parts import Parts, open_parts
from assistance.relay.publish import Relay
from assistance.relay.wakeup import WakeUp
from assistance.runtime.loop import run_passes
from assistance.settings import Settings


def run_relay(settings: Settings, stop: threading.Event) -> None:
    """Publish due outbox rows until asked to stop."""
    from assistance.broker.rabbitmq.publisher import RabbitPublisher

    with open_parts(settings, "relay", stop, pool_size=3, looks_up=True) as parts, ExitStack() as closing:
        publisher = RabbitPublisher(parts.broker_url, parts.configuration.channels)
        closing.callback(publisher.close)
        relay = Relay(parts.database, publisher, parts.configuration.channels)
        serve_metrics(parts, closing, alive=relay.is_alive)
        with beating(parts, "relay", lambda: {"broker": publisher.state}):
            relay_loop(parts, relay)


def relay_loop(parts: Parts, relay: Relay) -> None:
    """Publish at every wake-up and every poll until asked to stop."""
    url = parts.settings.database_url.get_secret_value()
    wake_up = WakeUp(url, parts.settings.relay_poll_seconds, parts.stop)

    def wait() -> None:
        relay.is_told = wake_up.wait(relay.next_due_seconds)

    run_passes("relay", relay.one_pass, wait, parts.stop)
