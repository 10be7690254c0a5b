"""Discrete events: every actor is a generator, every `yield` a place where it can be crashed, stopped or overtaken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from heapq import heappop, heappush
from typing import Any, TypeVar

Result = TypeVar("Result")
#: An actor yields the seconds until its next step, or `None` to sleep until somebody wakes it.
Steps = Generator[float | None, None, Result]

Start = Callable[[], Steps[None]]

#: Seconds that one step of a process takes, half to one and a half times.
STEP = 0.02
_RESTART = 1.0


class Crash(Exception):
    """The process of this actor is killed."""


class Task:
    """One actor. A wake-up that carries an older `turn` comes too late and is dropped."""

    __slots__ = ("abandon", "name", "restart", "steps", "turn")

    def __init__(self, name: int, steps: Steps[None], restart: Start | None) -> None:
        self.name = name
        self.steps = steps
        self.restart = restart  # makes the steps of a new process; nothing else can be killed
        self.turn = 0
        self.abandon: Callable[[], None] | None = None  # ends the transaction that is open now


class Scheduler:
    """Time, turns and the two faults of processes: killed, or stopped for a while."""

    __slots__ = ("_heap", "_number", "counts", "crash_rate", "current", "is_over", "now", "on_loss", "random",
                 "stop_rate", "stop_seconds", "taken", "tasks", "trace")  # fmt: skip

    def __init__(self, random: Callable[[], float]) -> None:
        self.random = random
        self.now = 0.0
        self.tasks: list[Task] = []
        self.trace: list[Any] = []
        self.counts: Counter[str] = Counter()
        self.taken = 0  # steps
        self.crash_rate = self.stop_rate = 0.0
        self.stop_seconds = 0.0
        self.on_loss: Callable[[Task], None] = lambda _task: None  # the task's connections are gone
        self.is_over = False
        self._heap: list[tuple[float, int, Task, int]] = []
        self._number = 0
        self.current = Task(-1, no_steps(), restart=None)

    def spawn(self, start: Start, delay: float) -> None:
        """Add a process, which starts again when it was killed."""
        self._add(Task(len(self.tasks), start(), restart=start), delay)

    def spawn_once(self, steps: Steps[None], delay: float) -> None:
        """Add something that happens once and cannot be killed."""
        self._add(Task(len(self.tasks), steps, restart=None), delay)

    def _add(self, task: Task, delay: float) -> None:
        self.tasks.append(task)
        self._schedule(task, self.now + delay)

    def wake(self, task: Task, turn: int, delay: float = 0.0) -> None:
        """Let a sleeping task go on, unless something else woke it since."""
        if task.turn == turn:
            self._schedule(task, self.now + delay)

    def run(self, end: float) -> None:
        """Take steps until nothing is left, the time is `end`, or the run is over."""
        heap, random, trace = self._heap, self.random, self.trace
        while heap and not self.is_over:
            at, _, task, turn = heap[0]
            if at > end:
                break
            heappop(heap)
            if task.turn != turn:
                continue
            self.now = at
            self.current = task
            self.taken += 1
            trace += (at, task.name)
            if self.crash_rate and (draw := random()) < self.crash_rate + self.stop_rate and task.restart:
                if draw < self.crash_rate:
                    self.crash(task)
                else:
                    self._stop(task)
                continue
            try:
                delay = task.steps.send(None)
            except StopIteration:
                task.turn = -1
                continue
            if delay is not None:
                self._number += 1
                task.turn += 1
                heappush(heap, (at + delay * (0.5 + random()), self._number, task, task.turn))
        self.now = max(self.now, min(end, self.now if self.is_over else end))

    def crash(self, task: Task) -> None:
        """Kill the actor's process."""
        if task.turn < 0:
            return
        self.counts["crashes"] += 1
        self._lose(task)
        self.current = task
        try:
            delay = task.steps.throw(Crash())
        except StopIteration:
            task.turn = -1
        except Crash:
            assert task.restart is not None
            task.steps = task.restart()
            self._schedule(task, self.now + _RESTART)
        else:
            if delay is not None:
                self._schedule(task, self.now + delay)

    def crash_all(self) -> None:
        """Kill every process at once."""
        for task in list(self.tasks):
            if task.restart:
                self.crash(task)

    def _stop(self, task: Task) -> None:
        """The process stands still for longer than a lease; the servers give up on its connections."""
        self.counts["stops"] += 1
        self._lose(task)
        self._schedule(task, self.now + self.stop_seconds * (0.5 + self.random()))

    def _lose(self, task: Task) -> None:
        if task.abandon:
            task.abandon()
        self.on_loss(task)

    def _schedule(self, task: Task, at: float) -> None:
        self._number += 1
        task.turn += 1
        heappush(self._heap, (at, self._number, task, task.turn))


def no_steps() -> Steps[None]:
    """The steps of nobody."""
    return
    yield


def complete(steps: Steps[Result]) -> Result:
    """Run steps that nobody interrupts; for tests that use the statements alone."""
    while True:
        try:
            steps.send(None)
        except StopIteration as stop:
            result: Result = stop.value
            return result
