"""Counts refused credentials by the address that they come from, within this process."""

from __future__ import annotations

import threading

from assistance.limits.rate import WINDOW_SECONDS, fitting, until_one_fits
from assistance.runtime.addresses import network_of
from assistance.runtime.clock import monotonic

_MOST_ADDRESSES = 10_000


class StrangerLimit:
    """How many credentials may be refused a minute before their sender is told to wait. Thread-safe.

    Only callers who cannot say who they are get to know it: behind a gateway all callers share an address, and a right
    credential is always let in.
    """

    def __init__(self, quota: int = 60) -> None:
        self._quota = quota
        self._free_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def wait_seconds(self, address: str) -> float:
        """Count a refused credential from this address: 0, or how long it shall wait when there were too many."""
        sender, now = network_of(address), monotonic()
        with self._lock:
            debt = max(0.0, self._free_at.get(sender, now) - now)
            if not fitting(self._quota, debt):
                return until_one_fits(self._quota, debt)
            if len(self._free_at) >= _MOST_ADDRESSES:
                self._free_at = {known: free_at for known, free_at in self._free_at.items() if free_at > now}
                if len(self._free_at) >= _MOST_ADDRESSES:
                    self._free_at.clear()
            self._free_at[sender] = now + debt + WINDOW_SECONDS / self._quota
            return 0.0
