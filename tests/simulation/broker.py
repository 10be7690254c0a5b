"""RabbitMQ as it was measured: at least once, in any order, with copies, unsure confirms, refusals and lost queues."""

from __future__ import annotations

from assistance.broker.contract import Confirmation
from tests.simulation.rows import Hint
from tests.simulation.scheduler import STEP, Scheduler, Task

DEAD_LETTERS = "dead letters"
_DELIVERY_LIMIT = 5


class Broker:
    """Queues by channel. A message is a hint and how often it was given out."""

    __slots__ = ("_idle", "_numbers", "_scheduler", "away_until", "copy_rate", "in_order", "lost", "missing_until",
                 "nack_rate", "queues", "silent_until", "unacked", "unsure_rate")  # fmt: skip

    def __init__(self, scheduler: Scheduler, channels: list[str]) -> None:
        self._scheduler = scheduler
        self.queues: dict[str, list[tuple[Hint, int]]] = {name: [] for name in [*channels, DEAD_LETTERS]}
        self.unacked: dict[int, tuple[str, Hint, int, Task]] = {}
        self._idle: dict[str, list[tuple[Task, int]]] = {name: [] for name in self.queues}
        self._numbers = 0
        self.lost: set[int] = set()  # deliveries of which a message was lost with its queue
        self.away_until = self.silent_until = 0.0
        self.missing_until = dict.fromkeys(self.queues, 0.0)
        self.in_order = False
        self.copy_rate = self.nack_rate = self.unsure_rate = 0.0

    def _wake_one(self, queue: str) -> None:
        idle = self._idle[queue]
        while idle:
            task, turn = idle.pop(0)
            if task.turn == turn:
                self._scheduler.wake(task, turn, STEP)
                return

    def publish(self, hint: Hint) -> Confirmation:
        """Take a message; mandatory, and confirmed if all is well."""
        scheduler, random = self._scheduler, self._scheduler.random
        if scheduler.now < self.away_until:
            return Confirmation.UNKNOWN
        if scheduler.now < self.missing_until[hint.channel]:
            scheduler.counts["returned"] += 1
            return Confirmation.RETURNED
        if self.nack_rate and random() < self.nack_rate:
            scheduler.counts["nacked"] += 1
            return Confirmation.NACKED
        unsure = self.unsure_rate and random() < self.unsure_rate
        if unsure:
            scheduler.counts["ambiguous confirms"] += 1
        if not unsure or random() < 0.5:
            self.put(hint.channel, hint)
            if self.copy_rate and random() < self.copy_rate:
                scheduler.counts["copies"] += 1
                self.put(hint.channel, hint)
        return Confirmation.UNKNOWN if unsure else Confirmation.CONFIRMED

    def put(self, queue: str, hint: Hint, given: int = 0) -> None:
        self.queues[queue].append((hint, given))
        self._wake_one(queue)

    def take(self, queue: str) -> tuple[int, Hint] | None:
        """Give one message to the task whose turn it is, or let it wait for the next one."""
        scheduler, ready = self._scheduler, self.queues[queue]
        if not ready or scheduler.now < max(self.away_until, self.silent_until):
            self._idle[queue].append((scheduler.current, scheduler.current.turn))
            return None
        hint, given = ready.pop(0 if self.in_order else int(scheduler.random() * len(ready)))
        self._numbers += 1
        self.unacked[self._numbers] = (queue, hint, given + 1, scheduler.current)
        scheduler.trace.append((self._numbers, *hint))
        return self._numbers, hint

    def ack(self, number: int) -> None:
        """The message leaves; an answer that comes after the connection was lost is dropped."""
        self.unacked.pop(number, None)

    def reject(self, number: int) -> None:
        """The message goes to the dead letters, from there nowhere."""
        queue, hint, _, _ = self.unacked.pop(number, (DEAD_LETTERS, None, 0, None))
        if queue != DEAD_LETTERS and hint is not None:
            self.put(DEAD_LETTERS, hint)

    def disconnect(self, task: Task | None) -> None:
        """A consumer's connection ends (or everybody's): what it holds is given to others, or given up."""
        for number, (queue, hint, given, holder) in list(self.unacked.items()):
            if task is not None and holder is not task:
                continue
            del self.unacked[number]
            if queue != DEAD_LETTERS and given >= _DELIVERY_LIMIT:
                self.put(DEAD_LETTERS, hint)
            else:
                self.put(queue, hint, given)
        for queue, ready in self.queues.items():
            if ready:
                self._wake_one(queue)  # perhaps the lost one had just been woken

    def stall(self, silent_for: float) -> None:
        """It takes messages and gives none out."""
        self.silent_until = self._scheduler.now + silent_for

    def restart(self, away_for: float) -> None:
        """Killed and started again: every message is on disk."""
        self._scheduler.counts["broker kills"] += 1
        self.away_until = self._scheduler.now + away_for
        self.disconnect(None)

    def come_back(self) -> None:
        """Consumers are connected again."""
        self.away_until = self.silent_until = 0.0
        for queue in self.queues:
            for task, turn in self._idle[queue]:
                self._scheduler.wake(task, turn, STEP)
            self._idle[queue].clear()

    def wipe(self, missing_for: float) -> None:
        """Every queue is lost with its messages, and declared anew after a while."""
        self._scheduler.counts["queues lost"] += 1
        for queue, ready in self.queues.items():
            self.lost.update(hint.delivery for hint, _ in ready)
            ready.clear()
            self.missing_until[queue] = self._scheduler.now + missing_for
        self.lost.update(hint.delivery for _, hint, _, _ in self.unacked.values())
        self.unacked.clear()

    def holds(self, delivery: int) -> bool:
        """Whether any message about a delivery is left."""
        if any(hint.delivery == delivery for _, hint, _, _ in self.unacked.values()):
            return True
        return any(hint.delivery == delivery for ready in self.queues.values() for hint, _ in ready)

    def is_empty(self) -> bool:
        return not self.unacked and not any(self.queues.values())
