"""Names and arguments of queues, derived from channel names."""

from __future__ import annotations

from assistance.broker.topology import (
    DEAD_LETTER_EXCHANGE,
    DEAD_LETTER_QUEUE,
    EXCHANGE,
    Queue,
    queue_of,
    topology_for,
)


def _queue(name: str, *channels: str) -> Queue:
    (found,) = [queue for queue in topology_for(channels).queues if queue.name == name]
    return found


def test_every_channel_has_one_queue_that_is_bound_under_the_channels_name() -> None:
    for channel in ("sales", "pricing"):
        queue = _queue(queue_of(channel), "sales", "pricing")
        assert (queue.name, queue.exchange, queue.routing_key) == (f"assistance.{channel}", EXCHANGE, channel)


def test_queues_are_quorum_queues_whatever_the_servers_default_is() -> None:
    assert {queue.arguments["x-queue-type"] for queue in topology_for(["a", "b"]).queues} == {"quorum"}


def test_a_dead_letter_of_a_channel_is_kept_until_the_dead_letter_queue_has_confirmed_it() -> None:
    arguments = _queue("assistance.a", "a").arguments
    assert arguments["x-dead-letter-exchange"] == DEAD_LETTER_EXCHANGE
    assert arguments["x-dead-letter-strategy"] == "at-least-once"
    assert arguments["x-overflow"] == "reject-publish"  # without it the strategy falls back to at-most-once


def test_the_dead_letter_queue_takes_every_dead_letter_and_has_nowhere_to_lose_it_to() -> None:
    queue = _queue(DEAD_LETTER_QUEUE, "a")
    assert (queue.exchange, queue.routing_key) == (DEAD_LETTER_EXCHANGE, "#")
    assert "x-dead-letter-exchange" not in queue.arguments


def test_delivery_limits_are_set_because_their_default_differs_between_versions() -> None:
    assert _queue("assistance.a", "a").arguments["x-delivery-limit"] == 50
    assert _queue(DEAD_LETTER_QUEUE, "a").arguments["x-delivery-limit"] == 1_000_000


def test_nothing_in_the_topology_expires_messages() -> None:
    arguments = {name for queue in topology_for(["a"]).queues for name in queue.arguments}
    assert not arguments & {"x-message-ttl", "x-expires", "x-max-length", "x-max-length-bytes"}


def test_every_exchange_that_a_queue_is_bound_to_is_declared() -> None:
    topology = topology_for(["a"])
    assert {queue.exchange for queue in topology.queues} == {exchange.name for exchange in topology.exchanges}


def test_the_order_and_repetition_of_channels_change_nothing() -> None:
    assert topology_for(["b", "a", "b"]) == topology_for(["a", "b"])
