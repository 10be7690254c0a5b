"""What one client does, buggy or hostile, costs the others nothing."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import REGISTRY

from assistance.api.waiting import Seat, WaitingRoom
from assistance.domain.allowance import Allowance
from assistance.domain.caller import Caller, Scope
from assistance.status.watching import Watcher
from tests.builders import eventually
from tests.memory_door import MemoryDoor


def test_no_client_takes_the_last_seat_from_the_others() -> None:
    room = WaitingRoom(Watcher(lambda _names: {}), 32)

    def take(client: str) -> list[Seat]:
        """As many as it gets."""
        return list(iter(lambda: room.take_seat(client), None))

    greedy, second, third = take("greedy"), take("second"), take("third")
    assert [len(greedy), len(second), len(third)] == [16, 8, 4]
    # Who has more than is left gives way to the others by and by, until all have the same.
    for _ in range(40):
        for client, seats in (("third", third), ("second", second), ("greedy", greedy)):
            seats.pop().leave()
            seats += take(client)
    assert max(map(len, (greedy, second, third))) - min(map(len, (greedy, second, third))) <= 1
    newcomer = take("newcomer")
    assert newcomer
    for seat in (*greedy, *second, *third, *newcomer):
        seat.leave()
        seat.leave()
    everybody = take("")
    assert len(everybody) == 32, "callers without a name have no neighbours"
    for seat in everybody:
        seat.leave()


def test_a_client_whose_server_is_slow_holds_up_no_other() -> None:
    door = MemoryDoor()
    door.seats = 2
    app = door.app()
    url = "https://bot.example.com/callbacks"
    door.caller = Caller(client="slow", scopes=frozenset(Scope))
    mine = app.test_client().post("/webhooks", json={"url": url}).get_json()["id"]
    answered = threading.Event()
    door.webhooks.slow = lambda: answered.wait(20)
    with ThreadPoolExecutor(1) as pool:
        testing = pool.submit(app.test_client().post, f"/webhooks/{mine}/test")
        eventually(lambda: REGISTRY.get_sample_value("assistance_waiting_calls") == 1)
        for path, body in ((f"/webhooks/{mine}/test", None), ("/webhooks", {"url": f"{url}/2"})):
            refused = app.test_client().post(path, json=body)
            assert (refused.status_code, refused.get_json()["code"]) == (429, "rate-limited")
            assert refused.headers["Retry-After"] == "2"
        door.caller = Caller(client="other", scopes=frozenset(Scope))
        assert app.test_client().post("/webhooks", json={"url": url}).status_code == 201
        answered.set()
        assert testing.result().status_code == 200
    assert REGISTRY.get_sample_value("assistance_waiting_calls") == 0


def test_a_batch_counts_as_many_calls_as_it_has_requests() -> None:
    door = MemoryDoor()
    door.caller = Caller(client="bot", scopes=frozenset(Scope))
    counted: list[str] = []

    def admit(client: str) -> Allowance:
        counted.append(client)
        left = 3 - len(counted)
        return Allowance(admitted=left >= 0, quota=3, remaining=max(0, left), reset_seconds=20)

    door.admit = admit
    good = {"topic": "sales", "description": "x"}
    answer = door.app().test_client().post("/assistance/batch", json={"requests": [good, 7, good, good, good]})
    found = answer.get_json()["results"]
    assert [result["status"] for result in found] == [202, 422, 202, 429, 429]
    assert (found[3]["body"]["code"], found[3]["body"]["retryable"]) == ("rate-limited", True)
    assert (answer.headers["Retry-After"], answer.headers["RateLimit"]) == ("20", '"client";r=0;t=20')
    assert (len(door.submitted), counted) == (2, ["bot"] * 5)


@pytest.mark.parametrize("value", [f",{' ' * 15_000},", "a" + " " * 15_000 + "\x01", "a; " * 5_000, 'a="' * 5_000])
def test_a_header_that_is_long_and_means_nothing_costs_no_time(value: str) -> None:
    client = MemoryDoor().app().test_client()
    path = client.post("/assistance", json={"topic": "sales", "description": "x"}).get_json()["links"]["self"]
    # While one call is busy with such a thing, all others of its process stand still.
    for name in ("PREFER", "ACCEPT", "IF_NONE_MATCH", "IDEMPOTENCY_KEY", "CONTENT_TYPE", "AUTHORIZATION", "HOST"):
        began = time.thread_time()
        client.get(path, environ_overrides={f"HTTP_{name}": value}).close()
        assert time.thread_time() - began < 0.5, name
