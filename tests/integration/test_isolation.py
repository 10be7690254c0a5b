"""One channel that is dead or slow leaves the others alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from statistics import quantiles

import pytest

from tests.builders import World, eventually
from tests.integration.consumers import ARRIVED, REFUSED, SET, SOON, Install, Provider

ROUNDS, PER_ROUND, ILL_PER_ROUND = 12, 8, 8


@pytest.mark.alone
@pytest.mark.parametrize("trouble", ["dead", "slow"])
@pytest.mark.parametrize("install", ["memory"], indirect=True)
def test_a_dead_or_slow_channel_does_not_slow_another_one_down(
    worlds: Callable[..., World], install: Install, trouble: str
) -> None:
    """Rounds with and without trouble take turns, so that a busy machine is busy in both."""
    world = worlds({"well": ("well",), "ill": ("ill",)}, retry=SOON)
    consumers = install(world)
    well, ill = Provider(), Provider()
    consumers.consume(workers=ILL_PER_ROUND, well=well, ill=ill)
    waits: dict[bool, list[float]] = {False: [], True: []}  # without and with trouble
    for number in range(ROUNDS):
        in_trouble = number % 2 == 1
        ill.answer = REFUSED if in_trouble and trouble == "dead" else ARRIVED
        ill.go_on = threading.Event() if in_trouble and trouble == "slow" else SET
        for _ in range(ILL_PER_ROUND):
            world.submit("ill")
        waits[in_trouble] += [_accept_to_delivered(world) for _ in range(PER_ROUND)]
        ill.answer = ARRIVED
        ill.go_on.set()
        eventually(lambda: world.count("deliveries", "state <> 'delivered'") == 0, 60)
    without, with_trouble = _p95(waits[False]), _p95(waits[True])
    print(f"p95 {without * 1000:.1f} ms, beside a {trouble} channel {with_trouble * 1000:.1f} ms")
    assert with_trouble <= 1.2 * without + 0.01


def _p95(waits: list[float]) -> float:
    return quantiles(waits, n=20)[18]


def _accept_to_delivered(world: World) -> float:
    began = time.monotonic()
    request = world.submit("well").id
    eventually(lambda: world.request(request).status == "delivered", 60)
    return time.monotonic() - began
