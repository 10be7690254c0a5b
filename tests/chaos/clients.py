"""The clients of the campaign, as one process with many connections: `python -m tests.chaos.clients OPTIONS`.

Careful clients name an Idempotency-Key and repeat until they are told 202; careless ones try once and forget. Some ask
twice with one key at the same time, some repeat what was accepted, some try the key with another text, some ask where
their requests are. Every call becomes one line of the history. Standard input: `pause`, `go`, and `end`, after which
only calls that were begun are repeated; the process exits when all are answered.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import json
import random
import socket
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOPICS = {"sales": 3, "support": 3, "billing": 3, "pricing": 2, "hook": 3, "both": 1}
CALL_SECONDS = 15.0  # far beyond the deadline that the API promises
_GIVE_UP_SECONDS = 120.0
_PIECES = (
    "plain words", "<!channel> & <@U0123> <https://evil.example|here>", "*bold* _it_ ~no~ `code`", "日本語",
    "👩‍👩‍👧 🇩🇪 emoji", "مرحبا بالعالم", "it's \"quoted\" \\ back\\slash", "&amp; &lt; escaped", ".\n.\ndots",
    "line one\nline two\n\nline four", "From: x\nBcc: y@evil.example", "ẞ ﬁ Å é ﷽",
    "=?utf-8?q?=0D=0ABcc:_x=40evil.example?=",
    "{\"json\": [1, 2]}", "%s {} ${x} <b>html</b>", "trailing spaces then text", "a" * 300,
)  # fmt: skip


@dataclass(frozen=True)
class Order:
    """One request as a client wants it."""

    marker: str
    topic: str
    description: str
    key: str | None

    @property
    def sha(self) -> str:
        return hashlib.sha256(self.description.encode()).hexdigest()


class Clients:
    """Everything that the threads share."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.ports: list[int] = options.port
        self.ended = threading.Event()
        self.going = threading.Event()
        self.going.set()
        self._history = Path(options.history).open("a", buffering=1)  # noqa: SIM115 (open as long as the process)
        self._lock = threading.Lock()

    def write(self, **line: Any) -> None:
        """One whole line of history."""
        text = json.dumps(line, separators=(",", ":")) + "\n"
        with self._lock:
            self._history.write(text)

    def obey(self) -> None:
        """Orders from standard input; its end counts as `end`."""
        for line in sys.stdin:
            match line.strip():
                case "pause":
                    self.going.clear()
                case "go":
                    self.going.set()
                case "end":
                    break
        self.ended.set()
        self.going.set()


class Client:
    """One thread's worth of clients, with a connection that it keeps to the API that it likes best."""

    def __init__(self, clients: Clients, number: int) -> None:
        self._clients = clients
        self._number = number
        self._random = random.Random(f"{clients.options.seed}-{clients.options.round}-{number}")
        self._port = number
        self._connection: http.client.HTTPConnection | None = None
        self._accepted: deque[tuple[str, str, Order]] = deque(maxlen=30)
        self._made = 0

    def run(self) -> None:
        mean = self._clients.options.threads / self._clients.options.rate
        due = time.monotonic() + self._random.random() * mean
        while not self._clients.ended.wait(max(0.0, due - time.monotonic())):
            self._clients.going.wait()
            due = max(due + self._random.expovariate(1 / mean), time.monotonic() - mean)
            if not self._clients.ended.is_set():
                self._one_turn()

    def _one_turn(self) -> None:
        dice = self._random.random()
        order = self._new_order()
        if dice < 0.03 and order.key:
            twin = threading.Thread(target=Client(self._clients, self._number + 1)._ask, args=(order, "twin"))
            twin.start()
            self._ask(order, "twin")
            twin.join()
            return
        if not self._ask(order, "first"):
            return
        if dice < 0.07 and order.key:
            self._ask(order, "repeat")
        elif dice < 0.09 and order.key:
            self._ask(Order(order.marker, order.topic, order.description + " changed", order.key), "other")
        elif dice < 0.2:
            self._poll(self._accepted[-1])
            self._poll(self._random.choice(self._accepted))

    def _new_order(self) -> Order:
        options, self._made = self._clients.options, self._made + 1
        marker = f"c{options.round}-{self._number}-{self._made}"
        words = " ".join(self._random.choices(_PIECES, k=self._random.randint(1, 4)))
        key = f"key-{options.seed}-{marker}" if self._random.random() < 0.6 else None
        topic = self._random.choices(list(TOPICS), list(TOPICS.values()))[0]
        return Order(marker, topic, f"⟦{marker}⟧ {words} ⟦end⟧", key)

    def _ask(self, order: Order, kind: str) -> bool:
        """Post, with a key until there is an answer that ends it; whether it was accepted."""
        give_up = time.monotonic() + _GIVE_UP_SECONDS
        body = json.dumps({"topic": order.topic, "description": order.description}).encode()
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": order.key} if order.key else {})
        while True:
            began = time.time()
            status, answer = self._call("POST", "/assistance", body, headers)
            self._clients.write(
                kind=kind, marker=order.marker, key=order.key, topic=order.topic, sha=order.sha, began=began,
                ended=time.time(), status=status, answer=answer if status == 202 else str(answer)[:300],
            )  # fmt: skip
            if status == 202:
                self._accepted.append((answer["id"], answer["ref"], order))
                return True
            again = order.key is not None and status in (0, 429, 503) and time.monotonic() < give_up
            if not again:
                return False
            time.sleep(0.1 + 0.3 * self._random.random())

    def _poll(self, accepted: tuple[str, str, Order]) -> None:
        began = time.time()
        status, answer = self._call("GET", f"/assistance/{accepted[0]}", None, {})
        self._clients.write(
            kind="poll", id=accepted[0], began=began, ended=time.time(), status=status,
            state=answer.get("status") if isinstance(answer, dict) else None,
        )  # fmt: skip

    def _call(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, Any]:
        """The status and the JSON; 0 and why when there is none."""
        try:
            if self._connection is None:
                port = self._clients.ports[self._port % len(self._clients.ports)]
                self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=CALL_SECONDS)
                self._connection.connect()
                self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            if self._connection is not None:
                self._connection.close()
            self._connection, self._port = None, self._port + 1
            return 0, type(error).__name__


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("seed", "history"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("round", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--port", type=int, action="append", required=True)
    clients = Clients(parser.parse_args())
    threading.Thread(target=clients.obey, daemon=True).start()
    threads = [threading.Thread(target=Client(clients, n).run) for n in range(clients.options.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
