"""Fixtures of the contract suites."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from assistance.broker.memory import MemoryBroker
from tests.contract.broker_ends import CHANNELS, Broker, Ends, RabbitEnds


@pytest.fixture(params=["memory", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    ends: Ends = (
        MemoryBroker(CHANNELS) if request.param == "memory" else RabbitEnds(request.getfixturevalue("broker_url"))
    )
    broker = Broker(ends)
    yield broker
    broker.close()
