"""A virtual host for every test, made and dropped a few at a time because each call costs a third of a second."""

from __future__ import annotations

from collections.abc import Callable

from tests.servers.ladder import Server

_AT_A_TIME = 4


class FreshVhosts:
    """Hands out virtual hosts that nobody used before."""

    def __init__(self, server: Server, unique_name: Callable[[], str]) -> None:
        self._server = server
        self._unique_name = unique_name
        self._spare: list[str] = []
        self._used: list[str] = []

    def take(self) -> str:
        if not self._spare:
            new = [self._unique_name() for _ in range(_AT_A_TIME)]
            self._server.change_vhosts(new, self._used)
            self._spare, self._used = new, []
        return self._spare.pop(0)

    def give_back(self, name: str) -> None:
        """The test is over; the host is dropped with the next call, or with the server."""
        self._used.append(name)
