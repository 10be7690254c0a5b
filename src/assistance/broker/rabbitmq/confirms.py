"""Which published message waits for which answer of the broker: plain bookkeeping, no I/O."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import takewhile

from assistance.broker.contract import Confirmation, Message


class Batch:
    """The messages of one `publish` and what became of them; `done` is set when nothing is left to wait for."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages
        self.done = threading.Event()
        self._results: list[Confirmation | None] = [None] * len(messages)
        self._open = len(messages)

    def settle(self, index: int, confirmation: Confirmation) -> None:
        """Record what became of one message; the first word counts."""
        if self._results[index] is None:
            self._results[index] = confirmation
            self._open -= 1
            if self._open == 0:
                self.done.set()

    def results(self) -> list[Confirmation]:
        """One confirmation per message, in order; UNKNOWN where none came."""
        return [result or Confirmation.UNKNOWN for result in self._results]


class Confirms:
    """The unanswered messages of one AMQP channel in confirm mode.

    Answers are matched by delivery tag, so that a late one of a batch that was given up never counts for the next.
    """

    def __init__(self) -> None:
        self._last_tag = 0
        self._pending: dict[int, tuple[Batch, int]] = {}
        self._returned: set[int] = set()

    def sent(self, batch: Batch, index: int) -> None:
        """Note the next message, right after it was handed to the channel: the broker counts in the same order."""
        self._last_tag += 1
        self._pending[self._last_tag] = (batch, index)

    def returned(self, message_id: str) -> None:
        """Note that a message came back; its confirm is still to come and will not count."""
        # Returns are rare, and the oldest come first: looking for one costs less than remembering the id of each.
        for tag, (batch, index) in self._pending.items():
            if batch.messages[index].message_id == message_id and tag not in self._returned:
                self._returned.add(tag)
                return

    def answered(self, tag: int, confirmation: Confirmation, *, multiple: bool) -> None:
        """Settle one message, or with `multiple` all up to this one (all there are when the tag is 0)."""
        tags = list(takewhile(lambda t: t <= tag or tag == 0, self._pending)) if multiple else [tag]
        for each in tags:
            if (entry := self._pending.pop(each, None)) is None:
                continue
            batch, index = entry
            came_back = each in self._returned
            self._returned.discard(each)
            batch.settle(index, Confirmation.RETURNED if came_back else confirmation)
