"""Careful bots that post at a steady rate, each with a key that it repeats until it is told 202."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Self

from tests.e2e.installation import Installation

_AGAIN_SECONDS = 0.2
#: How long a bot insists after the load has been asked to end.
_INSIST_SECONDS = 90.0


@dataclass
class Answers:
    """What the bots were told; 0 stands for no answer."""

    accepted: dict[str, str] = field(default_factory=dict)  #: description: id
    given_up: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0


class Load:
    """Posts while the `with` block runs; afterwards every description was accepted or given up."""

    def __init__(self, running: Installation, *, topic: str = "sales", per_second: float = 20, bots: int = 8) -> None:
        self.answers = Answers()
        self._running, self._topic = running, topic
        self._pause = bots / per_second
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._number = 0
        self._bots = [threading.Thread(target=self._bot, name=f"bot-{n}", daemon=True) for n in range(bots)]

    def __enter__(self) -> Self:
        for bot in self._bots:
            bot.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for bot in self._bots:
            bot.join(_INSIST_SECONDS + 30)
            assert not bot.is_alive(), "a bot waits for ever"

    def statuses_since(self, before: Counter[int]) -> Counter[int]:
        """What was answered since `before`, a copy of `answers.statuses`."""
        with self._lock:
            return self.answers.statuses - before

    def snapshot(self) -> Counter[int]:
        with self._lock:
            return self.answers.statuses.copy()

    def _bot(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                self._number += 1
                description = f"request {self._number}"
            self._insist(description)
            self._stop.wait(self._pause)

    def _insist(self, description: str) -> None:
        key, deadline = str(uuid.uuid4()), None
        while True:
            began = time.monotonic()
            status, body = self._running.post(self._topic, description, key=key, timeout=20)
            with self._lock:
                self.answers.statuses[status] += 1
                self.answers.slowest = max(self.answers.slowest, time.monotonic() - began)
                if status == 202:
                    self.answers.accepted[description] = str(body["id"])
                    return
            if self._stop.is_set():
                deadline = deadline or time.monotonic() + _INSIST_SECONDS
                if time.monotonic() > deadline:
                    self.answers.given_up.append(description)
                    return
            time.sleep(_AGAIN_SECONDS)
