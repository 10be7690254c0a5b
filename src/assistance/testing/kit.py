"""The contract suite for one channel type in one line, for authors outside this project."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import pytest

from assistance.channels.contract import Channel, ChannelType
from assistance.testing.behaviour import Provider
from assistance.testing.channel_contract import ChannelContract


def contract_for(
    channel_type: ChannelType, fake: Callable[[], AbstractContextManager[Provider]], options: Mapping[str, Any]
) -> type[ChannelContract]:
    """The test class for a type; give it a name that starts with `Test`.

    `options` are those of the type as they stand in the TOML file. Within a text, `{provider.url}` stands for that
    attribute of the fake that runs.
    """
    tested = channel_type

    class Contract(ChannelContract):
        channel_type = tested

        @pytest.fixture
        def provider(self) -> Iterator[Provider]:
            with fake() as running:
                yield running

        @pytest.fixture
        def channel(self, provider: Provider) -> Channel:
            filled = {
                name: value.format(provider=provider) if isinstance(value, str) else value
                for name, value in options.items()
            }
            return tested.build(tested.options.model_validate(filled))

    return Contract
