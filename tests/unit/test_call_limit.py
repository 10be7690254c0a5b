"""Limits of callers: the arithmetic, the shares of processes, and what an answer says about them."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest

from assistance.domain.allowance import Allowance
from assistance.domain.caller import Caller, Scope
from assistance.domain.errors import DatabaseUnavailable, Unauthenticated
from assistance.limits import callers, strangers
from assistance.limits.callers import CallLimit
from assistance.limits.rate import Share, fitting, take_share, until_one_fits
from assistance.limits.strangers import StrangerLimit
from tests.memory_door import MemoryDoor

QUOTA = 60


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Row:
    """The line of one client, as the database keeps it for all processes."""

    def __init__(self, clock: Clock, quota: int = QUOTA) -> None:
        self._clock = clock
        self.quota = quota
        self.free_at = 0.0
        self.asked = 0
        self.is_away = False
        self._lock = threading.Lock()

    def take(self, _client: str, unused: int) -> Share:
        with self._lock:
            self.asked += 1
            if self.is_away:
                raise DatabaseUnavailable
            now = self._clock()
            share = take_share(self.quota, max(0.0, self.free_at - now), unused)
            self.free_at = now + share.debt
            return share


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(callers, "monotonic", clock)
    monkeypatch.setattr(strangers, "monotonic", clock)
    return clock


def admitted(limit: CallLimit, calls: int, client: str = "bot") -> int:
    return sum(limit.admit(client).admitted for _ in range(calls))


@pytest.mark.parametrize("quota", [1, 7, 19, 20, 59, 60, 600, 999, 100_000])
def test_a_quiet_client_may_use_exactly_its_quota_at_once(quota: int) -> None:
    debt, calls = 0.0, 0
    while (share := take_share(quota, debt, 0)).calls:
        debt, calls = share.debt, calls + share.calls
    assert calls == quota
    assert fitting(quota, debt) == 0
    assert until_one_fits(quota, debt) == pytest.approx(60 / quota)


def test_calls_come_back_evenly_as_time_passes(clock: Clock) -> None:
    limit = CallLimit(Row(clock).take, QUOTA)
    assert admitted(limit, 100) == QUOTA
    for _ in range(10):
        clock.now += 1.01
        assert admitted(limit, 5) == 1


def test_processes_share_one_rate(clock: Clock) -> None:
    row = Row(clock)
    processes = [CallLimit(row.take, QUOTA) for _ in range(2)]
    assert sum(admitted(processes[n % 2], 1) for n in range(120)) == QUOTA


def test_threads_share_one_rate(clock: Clock) -> None:
    row = Row(clock)
    processes = [CallLimit(row.take, QUOTA) for _ in range(2)]
    counted: list[int] = []
    threads = [threading.Thread(target=lambda n=n: counted.append(admitted(processes[n % 2], 20))) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counted) == QUOTA


def test_a_process_asks_the_database_once_per_share_and_not_for_each_refusal(clock: Clock) -> None:
    row = Row(clock, quota=600)
    limit = CallLimit(row.take, 600)
    assert admitted(limit, 2000) == 600
    assert row.asked == 600 / 30 + 1


def test_no_minute_has_more_than_quota_and_shares_beyond_the_rate(clock: Clock) -> None:
    row = Row(clock, quota=600)
    processes = [CallLimit(row.take, 600) for _ in range(4)]
    moments: list[float] = []
    for tick in range(1800):
        clock.now += 0.1
        limit = processes[tick % 4]
        moments += [clock.now for _ in range(20) if limit.admit("bot").admitted]
    # A quota at once, a quota by time, and at most one share that each process took before.
    for start in range(0, 120, 15):
        within = [moment for moment in moments if start <= moment - 1000.0 < start + 60]
        assert len(within) <= 600 + 600 + 4 * 30
    assert 3 * 600 <= len(moments) <= 4 * 600


def test_what_a_process_does_not_use_comes_back_by_time(clock: Clock) -> None:
    row = Row(clock)
    idle, busy = CallLimit(row.take, QUOTA), CallLimit(row.take, QUOTA)
    assert admitted(idle, 1) == 1  # and keeps two calls that it never uses
    assert admitted(busy, 100) == QUOTA - 3
    clock.now += 60
    assert admitted(busy, 100) == QUOTA


def test_a_share_is_void_after_the_time_of_its_calls(clock: Clock) -> None:
    row = Row(clock)
    limit = CallLimit(row.take, QUOTA)
    limit.admit("bot")
    clock.now += 3.1
    limit.admit("bot")
    assert row.asked == 2


@pytest.mark.parametrize("processes", [1, 2, 4, 8])
def test_a_client_within_its_quota_is_never_refused_however_many_processes_answer_it(
    clock: Clock, processes: int
) -> None:
    row = Row(clock, quota=600)
    limits = [CallLimit(row.take, 600) for _ in range(processes)]
    chance = random.Random(processes)
    refused = 0
    for _ in range(5400):  # ten minutes of nine tenths of the quota, at random moments
        clock.now += chance.expovariate(9)
        refused += not chance.choice(limits).admit("bot").admitted
    assert refused == 0


def test_what_was_used_is_not_given_back(clock: Clock) -> None:
    row = Row(clock, quota=600)
    limits = [CallLimit(row.take, 600) for _ in range(4)]
    calls = 0
    for tick in range(3000):  # five minutes of twice the quota
        clock.now += 0.1
        calls += admitted(limits[tick % 4], 2)
    assert 5 * 600 <= calls <= 6 * 600 + 4 * 30


def test_one_clients_limit_is_not_anothers(clock: Clock) -> None:
    rows = {"loud": Row(clock), "quiet": Row(clock)}
    limit = CallLimit(lambda client, unused: rows[client].take(client, unused), QUOTA)
    assert admitted(limit, 1000, "loud") == QUOTA
    assert admitted(limit, 30, "quiet") == 30


def test_without_the_database_a_process_keeps_the_rate_by_itself(clock: Clock) -> None:
    row = Row(clock)
    limit = CallLimit(row.take, QUOTA)
    row.is_away = True
    assert admitted(limit, 500) == QUOTA
    assert row.asked == 1
    row.is_away = False
    clock.now += 6
    assert admitted(limit, 500) == QUOTA  # the row knows nothing of what was let in meanwhile
    assert row.asked > 1


def test_a_changed_quota_counts_from_the_next_share_on(clock: Clock) -> None:
    row = Row(clock)
    limit = CallLimit(row.take, QUOTA)
    assert limit.admit("bot").quota == QUOTA
    row.quota = 6000
    clock.now += 5
    assert limit.admit("bot").quota == 6000


def test_an_answer_says_what_is_left_and_when_it_comes_back(clock: Clock) -> None:
    limit = CallLimit(Row(clock, 600).take, 600)
    first = limit.admit("bot")
    assert (first.remaining, first.reset_seconds) == (599, 3.0)
    last = [limit.admit("bot") for _ in range(599)][-1]
    assert (last.admitted, last.remaining) == (True, 0)
    refused = limit.admit("bot")
    assert (refused.admitted, refused.remaining) == (False, 0)
    clock.now += refused.reset_seconds
    assert limit.admit("bot").admitted


def test_strangers_are_counted_by_address_and_ipv6_by_network(clock: Clock) -> None:
    limit = StrangerLimit(quota=3)
    assert [limit.wait_seconds("192.0.2.1") for _ in range(4)] == [0, 0, 0, pytest.approx(20.0)]
    assert limit.wait_seconds("192.0.2.2") == 0
    assert [limit.wait_seconds(f"2001:db8::{n}") > 0 for n in range(4)] == [False, False, False, True]
    clock.now += 21
    assert limit.wait_seconds("192.0.2.1") == 0


def test_strangers_from_many_addresses_do_not_fill_the_memory(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strangers, "_MOST_ADDRESSES", 100)
    limit = StrangerLimit()
    for number in range(1000):
        limit.wait_seconds(f"10.0.{number // 250}.{number % 250}")
    assert len(limit._free_at) <= 100


def the_bot(admit: Callable[[str], Allowance | None]) -> MemoryDoor:
    door = MemoryDoor()
    door.caller = Caller(client="bot", scopes=frozenset({Scope.SUBMIT, Scope.READ}))
    door.admit = admit
    return door


def test_every_answer_to_a_client_says_where_it_stands() -> None:
    door = the_bot(lambda _client: Allowance(admitted=True, quota=600, remaining=599, reset_seconds=2.2))
    for path in ("/assistance/01a1fc7e-2ccd-784a-8c72-549b47e809ff", "/nothing"):
        headers = door.app().test_client().get(path).headers
        assert headers["RateLimit-Policy"] == '"client";q=600;w=60'
        assert headers["RateLimit"] == '"client";r=599;t=3'


def test_a_call_too_many_is_told_when_to_come_back() -> None:
    door = the_bot(lambda _client: Allowance(admitted=False, quota=600, remaining=0, reset_seconds=0.3))
    answer = door.app().test_client().post("/assistance", json={"topic": "sales", "description": "Help"})
    assert (answer.status_code, answer.get_json()["code"]) == (429, "rate-limited")
    assert (answer.headers["Retry-After"], answer.headers["RateLimit"]) == ("1", '"client";r=0;t=1')
    assert not door.submitted


def test_callers_without_a_name_have_no_limit() -> None:
    door = MemoryDoor()
    door.admit = lambda _client: Allowance(admitted=False, quota=1, remaining=0, reset_seconds=60)
    answer = door.app().test_client().get("/livez")
    assert answer.status_code == 200
    assert "RateLimit" not in answer.headers
    assert door.app().test_client().get("/nothing").status_code == 404


def test_too_many_refused_credentials_of_one_address_are_answered_with_a_pause() -> None:
    door = MemoryDoor()
    door.caller = Unauthenticated("unknown")
    client = door.app().test_client()
    assert client.get("/assistance/x").status_code == 401
    door.stranger_wait = 12.5
    refused = client.get("/assistance/x", headers={"X-Forwarded-For": "192.0.2.7"})
    assert (refused.status_code, refused.get_json()["code"], refused.headers["Retry-After"]) == (
        429,
        "rate-limited",
        "13",
    )
