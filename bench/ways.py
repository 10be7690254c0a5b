"""The ways to do it all, from a bot's call to the webhook: ours, and what users of other libraries would build."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.arrivals import wait_until_none
from bench.load import Amount, Load, post
from bench.measuring import OURS
from bench.payload import BODY
from bench.stand import NOBODY, Server, Servers, Stand

#: Starts a process, given the port of the sink.
Start = Callable[[Servers, int], Server]


@dataclass(frozen=True, kw_only=True, slots=True)
class Door:
    """Who takes calls: `path`, `key` (else ours) and `body` (for a port of the sink) are what bots send.

    `stored` is a query that counts what was taken; none when nothing is stored.
    """

    name: str
    view: Start
    path: str = "/assistance"
    key: str | None = None
    body: Callable[[int], object] = lambda _sink_port: BODY
    stored: str | None = "SELECT count(*) FROM requests"
    prepare: Callable[[Stand], None] = lambda _stand: None

    def send(
        self, stand: Stand, view: Server, amount: Amount, *, sink_port: int = NOBODY, times: Path | None = None
    ) -> Load:
        """Let bots ask."""
        body = stand.folder / f"{self.name}.json"
        body.write_text(json.dumps(self.body(sink_port)))
        return post(view.port, self.path, self.key or stand.key, body, amount, times=times)

    def troubles(self, stand: Stand, load: Load) -> str:
        """Why a run does not count: refusals, other calls stored than accepted, a ledger that does not close."""
        found = [f"{load.bad} calls were refused or lost: {dict(load.answers)}"] if load.bad else []
        if self.stored and (stored := stand.count(self.stored)) != load.good:
            found.append(f"{load.good:,} calls were accepted, {stored:,} are stored")
        if ledger := stand.ledger_trouble():
            found.append(f"the ledger does not close: {ledger}")
        return "; ".join(found)


@dataclass(frozen=True, kw_only=True, slots=True)
class Way(Door):
    """A door, and the processes behind it; `queued` counts what waits for the relay, `undelivered` what is open."""

    worker: Start
    relay: Start | None = None
    queued: str = ""
    undelivered: str = "SELECT count(*) FROM deliveries WHERE state <> 'delivered'"
    settings: str = ""

    def wait_until_delivered(self, stand: Stand) -> None:
        """Until every delivery is written down as delivered."""
        wait_until_none(lambda: stand.count(self.undelivered), "deliveries are open")


class Installation:
    """A way with everything started, by role: view, relay, worker."""

    def __init__(self, stand: Stand, servers: Servers, way: Way, sink: Server) -> None:
        way.prepare(stand)
        self.way = way
        roles = {"view": way.view, "relay": way.relay, "worker": way.worker}
        self.processes = {role: start(servers, sink.port) for role, start in roles.items() if start is not None}

    @property
    def view(self) -> Server:
        """Who takes the calls."""
        return self.processes["view"]


def flask_view(module: str, python: str | None = None) -> Start:
    """How the views of the others are started."""

    def start(servers: Servers, sink_port: int) -> Server:  # noqa: ARG001 (a view tells nobody)
        return servers.view(module, python)

    return start


def _process(command: str, ready: str) -> Start:
    def start(servers: Servers, sink_port: int) -> Server:
        server = servers.ours(command, sink_port)
        server.wait_for(ready)
        return server

    return start


OUR_WAY = Way(
    name=OURS,
    view=_process("api", "/readyz"),
    relay=_process("relay", "/livez"),
    worker=_process("consumer", "/livez"),
    queued="SELECT count(*) FROM outbox",
)
