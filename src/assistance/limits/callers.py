"""Admits calls of clients from the shares that this process holds, so that a call costs no look at the database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import structlog

from assistance.domain.allowance import Allowance
from assistance.domain.errors import DatabaseUnavailable
from assistance.limits.rate import Share, fitting, take_share, until_one_fits
from assistance.runtime.clock import monotonic

log = structlog.get_logger()

#: A client without calls makes a process ask again no sooner than this.
_PAUSE_SECONDS = 0.25
#: How long a process goes on by itself before it asks a database that was away again.
_ALONE_SECONDS = 5.0
_MOST_ACCOUNTS = 10_000
_FORGET_SECONDS = 120.0


class CallLimit:
    """Counts the calls of clients; called by many threads at once.

    `take` gives the next share of a client for the unused calls of its last; while it raises `DatabaseUnavailable` the
    process keeps the rate by itself.
    """

    def __init__(self, take: Callable[[str, int], Share], quota: int) -> None:
        self._take = take
        self._quota = quota
        self._accounts: dict[str, _Account] = {}
        self._adding = threading.Lock()

    def admit(self, client: str) -> Allowance:
        """Count a call of the client, if it fits."""
        account = self._accounts.get(client) or self._add(client)
        with account.lock:
            return account.spend(partial(self._take, client))

    def _add(self, client: str) -> _Account:
        with self._adding:
            if len(self._accounts) >= _MOST_ACCOUNTS:
                long_ago = monotonic() - _FORGET_SECONDS
                self._accounts = {name: known for name, known in self._accounts.items() if known.asked_at > long_ago}
            return self._accounts.setdefault(client, _Account(self._quota))


class _Account:
    """What this process holds of one client's calls."""

    def __init__(self, quota: int) -> None:
        self.lock = threading.Lock()
        self.asked_at = monotonic()
        self._quota = quota
        self._calls = 0
        self._debt = 0.0  # how far the line reached at `asked_at`
        self._valid_until = self._ask_from = self._alone_until = float("-inf")

    def spend(self, take: Callable[[int], Share]) -> Allowance:
        now = monotonic()
        if (not self._calls or now >= self._valid_until) and now >= self._ask_from:
            self._refill(take)
            now = monotonic()
        admitted = self._calls > 0
        self._calls -= admitted
        debt = self._debt_at(now)
        remaining = self._calls + fitting(self._quota, debt)
        wait = debt if remaining else max(until_one_fits(self._quota, debt), self._ask_from - now)
        return Allowance(admitted=admitted, quota=self._quota, remaining=remaining * admitted, reset_seconds=wait)

    def _refill(self, take: Callable[[int], Share]) -> None:
        share = self._shared(take) if monotonic() >= self._alone_until else None
        now = monotonic()
        share = share or take_share(self._quota, self._debt_at(now), self._calls)
        self.asked_at, self._quota, self._calls, self._debt = now, share.quota, share.calls, share.debt
        self._valid_until = now + share.valid_seconds
        self._ask_from = now if share.calls else now + max(_PAUSE_SECONDS, until_one_fits(share.quota, share.debt))

    def _shared(self, take: Callable[[int], Share]) -> Share | None:
        try:
            return take(self._calls)
        except DatabaseUnavailable:
            # Whoever may call goes on calling: refusing everybody would make the outage theirs as well.
            log.warning("limits.alone", seconds=_ALONE_SECONDS)
            self._alone_until = monotonic() + _ALONE_SECONDS
            return None

    def _debt_at(self, now: float) -> float:
        return max(0.0, self._debt - (now - self.asked_at))
