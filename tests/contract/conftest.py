"""Fixtures of the contract suites."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from assistance.broker.memory import MemoryBroker
from assistance.channels import wire
from tests.certificates import Authority
from tests.contract.broker_ends import CHANNELS, Broker, Ends, RabbitEnds


@pytest.fixture(params=["memory", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    ends: Ends = (
        MemoryBroker(CHANNELS) if request.param == "memory" else RabbitEnds(request.getfixturevalue("broker_url"))
    )
    broker = Broker(ends)
    yield broker
    broker.close()


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[Authority]:
    """As an operator makes an authority of his own trusted; it is read once in a process."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    wire.tls_context.cache_clear()
    yield authority
    wire.tls_context.cache_clear()
