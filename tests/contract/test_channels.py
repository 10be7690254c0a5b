"""Every channel type keeps the promises of the contract; what is particular to each is in its own file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from assistance.channels import callback, slack, webhook
from assistance.channels import email as email_channel
from assistance.channels.contract import Channel
from assistance.channels.registry import find_type
from assistance.testing.channel_contract import ChannelContract
from assistance.testing.http_server import FakeHttpServer
from assistance.testing.slack_server import FakeSlack
from assistance.testing.smtp_server import FakeSmtp
from tests.contract.channel_tools import (
    SIGNING_SECRET,
    TOKEN,
    built,
    mailer,
)


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TOKEN", TOKEN)
    monkeypatch.setenv("FAKE_SECRET", SIGNING_SECRET)


class TestSlack(ChannelContract):
    channel_type = slack.CHANNEL_TYPE

    @pytest.fixture
    def provider(self) -> Iterator[FakeSlack]:
        with FakeSlack() as server:
            yield server

    @pytest.fixture
    def channel(self, provider: FakeSlack) -> Channel:
        return built(slack.CHANNEL_TYPE, token="env:FAKE_TOKEN", channel="C024BE91L", api_url=provider.api_url)


class TestWebhook(ChannelContract):
    channel_type = webhook.CHANNEL_TYPE

    @pytest.fixture
    def provider(self) -> Iterator[FakeHttpServer]:
        with FakeHttpServer() as server:
            yield server

    @pytest.fixture
    def channel(self, provider: FakeHttpServer) -> Channel:
        return built(webhook.CHANNEL_TYPE, url=f"{provider.url}hook?a=1", secret="env:FAKE_SECRET")


class TestCallback(ChannelContract):
    channel_type = callback.CHANNEL_TYPE

    @pytest.fixture
    def provider(self) -> Iterator[FakeHttpServer]:
        with FakeHttpServer() as server:
            yield server

    @pytest.fixture
    def channel(self, provider: FakeHttpServer) -> Channel:
        return built(
            callback.CHANNEL_TYPE, webhooks={"bot": {"url": f"{provider.url}hook", "secret": "env:FAKE_SECRET"}}
        )


class TestEmail(ChannelContract):
    channel_type = email_channel.CHANNEL_TYPE

    @pytest.fixture
    def provider(self) -> Iterator[FakeSmtp]:
        with FakeSmtp() as server:
            yield server

    @pytest.fixture
    def channel(self, provider: FakeSmtp) -> Channel:
        return mailer(provider.url)


def test_every_built_in_type_is_found_by_its_name() -> None:
    for channel_type in (slack.CHANNEL_TYPE, email_channel.CHANNEL_TYPE, webhook.CHANNEL_TYPE):
        assert find_type(channel_type.name) is channel_type
