"""Callbacks over a real database, to a real server of a bot: signed, in order, and without any say in the request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from standardwebhooks.webhooks import Webhook

from assistance.api.app import create_app
from assistance.channels.callback import CHANNEL_TYPE
from assistance.channels.contract import Channel
from assistance.channels.wire import NotConnected
from assistance.conciliation.ledger import read_ledger
from assistance.configuration import ChannelSettings, WebhookSettings
from assistance.deliveries.channel_states import states_of
from assistance.deliveries.replay import replay
from assistance.deliveries.webhooks import MOST_WEBHOOKS
from assistance.domain.caller import ANONYMOUS
from assistance.domain.errors import TooManyWebhooks, UrlRefused, WebhookExists
from assistance.domain.event import EventType
from assistance.domain.outcome import Rejected, RejectionReason
from assistance.intake.submit import Intake
from assistance.intake.webhooks import Webhooks
from assistance.resilience.circuit_breaker import BreakerState
from assistance.resilience.retry_schedule import RetrySchedule
from assistance.runtime.clock import Deadline
from assistance.runtime.ids import uuid7
from assistance.status.finding import Finder
from assistance.testing.http_server import FakeHttpServer, Reply
from tests.builders import AT_ONCE, CHECK_AFTER, RECEIPT, Line, ScriptedChannel, World, in_transaction
from tests.memory_door import MemoryDoor

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOT_TAKEN = Rejected(code="no", detail="No.", reason=RejectionReason.CONTENT)
SOON_OVER = RetrySchedule(delays=(3600.0,), give_up_after=1.0, jitter=0)


class Bot:
    """A world whose operator trusts three URLs, and unless told otherwise is called back at one for every request."""

    def __init__(
        self,
        worlds: Callable[..., World],
        server: FakeHttpServer,
        retry: RetrySchedule = AT_ONCE,
        *,
        for_operator: bool = True,
    ) -> None:
        self.server = server
        self.world = worlds()
        self.urls = {name: f"{server.url}{name}" for name in ("operator", "mine", "single")}
        tables = {name: {"url": url, "secret": "env:FAKE_SECRET"} for name, url in self.urls.items()}
        callbacks = ChannelSettings(
            name="callbacks", type=CHANNEL_TYPE, options={"webhooks": tables}, retry=retry, settle_seconds=0.001
        )
        client = None if for_operator else "somebody-else"
        hooks = [WebhookSettings(name="operator", url=self.urls["operator"], client=client)]
        # Trusted, and told of nothing by themselves: no request here is erased.
        hooks += [
            WebhookSettings(name=name, url=self.urls[name], events=(EventType.ERASED,)) for name in ("mine", "single")
        ]
        self.world.configuration = replace(
            self.world.configuration,
            channels={**self.world.configuration.channels, "callbacks": callbacks},
            webhooks={webhook.name: webhook for webhook in hooks},
        )
        self.world.intake = Intake(
            self.world.database,
            self.world.configuration,
            wake_relay=lambda: None,
            check_after_seconds=CHECK_AFTER,
            outbox_limit=1_000_000,
            client_open_requests=10_000,
        )
        self.webhooks = Webhooks(self.world.database, self.world.configuration)

    def line(self, people: Channel | None = None) -> Line:
        callbacks = self.world.configuration.channels["callbacks"].build()
        return Line(self.world, {"people": people or ScriptedChannel(), "callbacks": callbacks})

    def received(self, name: str) -> list[dict[str, Any]]:
        """The bodies that one URL got, in their order."""
        return [request.json for request in self.server.received if request.target == f"/{name}"]

    def callbacks(self, state: str | None = None) -> list[Any]:
        rows = self.world.rows("SELECT * FROM deliveries WHERE purpose = 'callback' ORDER BY event_version, id")
        return [row for row in rows if state is None or row.state == state]

    def is_quiet(self) -> bool:
        return self.world.count("deliveries", "check_at IS NOT NULL") == 0

    def register(self) -> Any:
        return self.webhooks.register("", self.urls["mine"], None, Deadline.after(5))

    def submit(self, url: str | None = None) -> UUID:
        """A request with a `callback_url` that stands for one on the open internet."""
        request = self.world.submit(metadata={"order": "1234"}).id
        if url is not None:
            self.world.execute("UPDATE requests SET callback_url = :url WHERE id = :id", url=url, id=request)
        return request


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SECRET", SECRET)


@pytest.fixture
def server() -> Iterator[FakeHttpServer]:
    with FakeHttpServer() as running:
        yield running


def test_what_happens_is_called_back_signed_and_the_request_does_not_notice(
    worlds: Callable[..., World], server: FakeHttpServer
) -> None:
    bot = Bot(worlds, server)
    mine = bot.register()
    own = bot.webhooks.new_secret("", Deadline.after(5))
    request = bot.submit(bot.urls["single"])
    line = bot.line()
    line.run_until(bot.is_quiet)
    line.stop()
    keys = {"operator": SECRET, "mine": mine["secret"], "single": own["secret"]}
    for received in server.received:
        body = Webhook(keys.pop(received.target[1:])).verify(received.body, dict(received.headers))
        assert body["type"] == "assistance.delivered"
        assert body["data"] == {
            "id": str(request),
            "ref": bot.world.request(request).ref,
            "state_version": 2,
            "status": "delivered",
            "previous": "accepted",
            "topic": "help",
            "dedup_key": None,
            "metadata": {"order": "1234"},
        }
    assert keys == {}
    assert len({received.headers["webhook-id"] for received in server.received}) == 3
    found = bot.world.request(request)
    assert (found.status, found.state_version, found.ended_at is None) == ("delivered", 2, False)
    assert {(row.state, row.required) for row in bot.callbacks()} == {("delivered", False)}
    assert not any(SECRET in str(row) or own["secret"] in str(row) for row in bot.callbacks())
    shown = Finder(bot.world.database)(request, Deadline.after(5), client="")
    assert shown is not None
    assert [delivery["channel"] for delivery in shown["deliveries"]] == ["people"]
    assert in_transaction(bot.world.database, read_ledger).closes


def test_callbacks_of_a_request_keep_their_order_whatever_fails(
    worlds: Callable[..., World], server: FakeHttpServer
) -> None:
    bot = Bot(worlds, server)
    server.script.upcoming += [Reply(http_status=500), Reply(http_status=503), Reply(http_status=302)]
    request = bot.submit()
    bot.world.deliver(request, NOT_TAKEN)
    (letter,) = bot.world.letters()
    bot.world.database.run(lambda it: replay(it, letter.id, actor="operator", check_after=300))
    bot.world.deliver(request, RECEIPT)
    first, *others = bot.callbacks()
    hints = [row.delivery_id for row in bot.world.rows("SELECT * FROM outbox WHERE channel = 'callbacks'")]
    assert (hints, len(others)) == ([first.id], 2), "only the first one may go"
    # What conciliation would do if it came too early: they wait all the same.
    for row in others:
        claimed = bot.world.claim(replace(bot.world.hint(request), delivery_id=row.id, channel="callbacks", series=1))
        assert getattr(claimed, "reason", None) == "behind"
    line = bot.line()
    line.run_until(bot.is_quiet)
    line.stop()
    assert [body["data"]["state_version"] for body in bot.received("operator")] == [2, 2, 2, 2, 3, 4]
    assert [body["type"].split(".")[1] for body in bot.received("operator")][-3:] == [
        "undeliverable",
        "replayed",
        "delivered",
    ]
    ids = [received.headers["webhook-id"] for received in server.received]
    assert (len(set(ids[:4])), len(set(ids))) == (1, 3)
    assert bot.world.request(request).state_version == 4


def test_a_server_that_says_gone_gets_nothing_more_and_nobody_is_alarmed(
    worlds: Callable[..., World], server: FakeHttpServer
) -> None:
    bot = Bot(worlds, server, for_operator=False)
    webhook = bot.register()["id"]
    requests = [bot.submit() for _ in range(2)]
    single = bot.submit(bot.urls["single"])
    server.script.upcoming += [Reply(http_status=410)] * 4
    line = bot.line(ScriptedChannel(RECEIPT))
    line.run_until(lambda: {row.state for row in bot.callbacks()} == {"cancelled"} and bot.is_quiet())
    (shown,) = bot.webhooks.list("", Deadline.after(5))
    assert (shown["id"], shown["disabled_at"] is None, "410" in shown["disabled_reason"]) == (webhook, False, True)
    assert bot.world.request(single).callback_url is None
    requests.append(bot.submit())
    line.run_until(bot.is_quiet)
    line.stop()
    assert len(bot.callbacks()) == 4, "nothing was started after that"
    assert bot.world.letters() == []
    assert {bot.world.request(request).status for request in (*requests, single)} == {"delivered"}


def test_a_server_that_is_away_ends_in_a_dead_letter_that_can_be_replayed_and_holds_up_nobody_else(
    worlds: Callable[..., World], server: FakeHttpServer
) -> None:
    bot = Bot(worlds, server, SOON_OVER)
    requests = [bot.submit() for _ in range(12)]  # more failures than a circuit breaker waits for
    server.script.upcoming += [Reply(http_status=500)] * 12
    line = bot.line()
    line.run_until(lambda: len(bot.callbacks("dead")) == 12)
    assert {bot.world.request(request).status for request in requests} == {"delivered"}
    states = in_transaction(bot.world.database, lambda it: states_of(it, ["callbacks"]))
    assert states["callbacks"].breaker.state is BreakerState.CLOSED
    letter = bot.world.letters()[0]
    assert (letter.channel, letter.reason) == ("callbacks", "gave_up")
    bot.world.database.run(lambda it: replay(it, letter.id, actor="operator", check_after=300))
    line.run_until(lambda: bot.callbacks("delivered"))
    line.stop()
    ids = [received.headers["webhook-id"] for received in server.received]
    assert len(ids) == 13
    assert ids[-1] in ids[:12]
    assert in_transaction(bot.world.database, read_ledger).closes


def test_a_client_manages_its_own_webhooks_over_the_api_and_nobody_elses(
    worlds: Callable[..., World], server: FakeHttpServer
) -> None:
    bot = Bot(worlds, server)
    door = MemoryDoor()
    client = create_app(replace(door.door(), webhooks=bot.webhooks)).test_client()

    def call(method: str, path: str, body: Any = None) -> tuple[int, Any]:
        answer = client.open(path, method=method, json=body)
        return answer.status_code, answer.json if answer.data else None

    status, made = call("POST", "/webhooks", {"url": bot.urls["mine"], "events": ["assistance.delivered"]})
    assert status == 201
    mine, first = f"/webhooks/{made['id']}", made.pop("secret")
    assert call("POST", "/webhooks", {"url": bot.urls["mine"]})[1]["code"] == "webhook-exists"
    assert call("GET", "/webhooks")[1] == {"webhooks": [made]}
    _, rotated = call("POST", f"{mine}/rotate")
    assert rotated["previous_until"]
    assert call("POST", f"{mine}/test") == (200, {"delivered": True, "http_status": 200, "detail": None})
    for secret in (first, rotated["secret"]):
        assert Webhook(secret).verify(server.received[-1].body, dict(server.received[-1].headers))["type"]
    bot.world.execute("UPDATE webhooks SET previous_until = now() - interval '1 s'")
    assert call("POST", f"{mine}/test")[1]["delivered"]
    assert server.received[-1].headers["webhook-signature"].count("v1,") == 1
    door.caller = replace(ANONYMOUS, client="somebody-else")
    for method, end in (("POST", "/rotate"), ("POST", "/test"), ("DELETE", "")):
        theirs, unknown = (call(method, path + end) for path in (mine, f"/webhooks/{uuid7()}"))
        for answer in (theirs[1], unknown[1]):
            answer.update(request_id="", instance="")
        assert theirs == unknown
        assert theirs[0] == 404
    assert call("GET", "/webhooks")[1] == {"webhooks": []}
    door.caller = ANONYMOUS
    bot.world.deliver(bot.submit())
    assert call("DELETE", mine) == (204, None)
    assert [row.state for row in bot.callbacks() if "webhook" in row.destination] == ["cancelled"]


def test_only_urls_on_the_open_internet_are_registered_or_taken_with_a_request(
    worlds: Callable[..., World], server: FakeHttpServer
) -> None:
    bot = Bot(worlds, server)

    def blocked(_host: str, _port: int, _deadline: Deadline) -> Any:
        raise NotConnected("blocked_address", "it leads elsewhere")

    guarded = Webhooks(bot.world.database, bot.world.configuration, blocked)
    for url in ("http://bot.example.com/", f"{server.url}unknown", "https://bot.example.com/"):
        with pytest.raises(UrlRefused) as refused:
            guarded.register("", url, None, Deadline.after(5))
        assert refused.value.member == "url"
    with pytest.raises(UrlRefused, match="has to begin with https://") as refused:
        bot.world.submit(callback_url=f"{server.url}unknown")
    assert refused.value.member == "callback_url"
    assert bot.world.count("requests") == 0
    trusted = bot.world.submit(callback_url=bot.urls["single"]).id
    assert bot.world.request(trusted).route["callback_to"] == "single"

    def unknown(_host: str, _port: int, _deadline: Deadline) -> Any:
        raise NotConnected("dns_failed", "no way out")  # the sends will look again

    anywhere = Webhooks(bot.world.database, bot.world.configuration, unknown)
    for number in range(MOST_WEBHOOKS):
        anywhere.register("", f"https://bot.example.com/{number}", None, Deadline.after(5))
    with pytest.raises(TooManyWebhooks):
        anywhere.register("", "https://bot.example.com/more", None, Deadline.after(5))
    with pytest.raises(WebhookExists):
        anywhere.register("other", "https://bot.example.com/", None, Deadline.after(5))
        anywhere.register("other", "https://bot.example.com/", None, Deadline.after(5))
