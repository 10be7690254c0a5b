"""What one run is made of, and the words that all of its actors use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from assistance.domain.route import Step
from tests.simulation.broker import Broker
from tests.simulation.design import Design, lines
from tests.simulation.providers import Providers
from tests.simulation.scheduler import STEP, Result, Scheduler, Steps
from tests.simulation.store import DatabaseLost, Store, Transaction, Violation

FAULTS_SECONDS = 30.0
#: After the faults: the longest back-off, a doubled check_at, a lease, look-ups; the slowest of 12,000 runs took 37 s.
LIVENESS_SECONDS = 120.0


@dataclass(slots=True)
class Client:
    """One caller: where its topic goes, and which ids it was told."""

    number: int
    plan: tuple[Step, ...]
    key: int | None
    body: int
    told: list[int] = field(default_factory=list)
    calls: int = 0
    open_calls: int = 0


class World:
    """One run: the servers, the providers, the faults."""

    def __init__(self, seed: int, design: Design) -> None:
        self.random = Random(seed)
        self.design = design
        self.scheduler = Scheduler(self.random.random)
        self.store = Store(self.scheduler, checks_check_at=not design.check_at_forgotten)
        self.lines = lines(design)
        self.broker = Broker(self.scheduler, list(self.lines))
        self.providers = Providers(self.scheduler, design, seed, self.store.deliveries)
        self.clients: list[Client] = []
        self.keys_in_use: dict[int, int] = {}  # the first body that came with a key
        self.strays = 0  # messages that belong to no delivery
        self.probes: dict[tuple[str, float | None], int] = {}  # calls while a breaker was not closed
        self.replays = 0
        self.cursor = 0  # of the mutant that has one
        self.resends: dict[tuple[int, int], int] = {}  # by an operator, of held deliveries

    @property
    def faults_are_on(self) -> bool:
        return self.scheduler.now < FAULTS_SECONDS

    def check_that_a_hint_is_left(self, delivery: int) -> None:
        """Conciliation mends lost queues and nothing else: every other hint is handed on before it is given up.

        Called for deliveries without a hint in the outbox.
        """
        self.scheduler.counts["re-armed"] += 1
        if delivery not in self.broker.lost and not self.broker.holds(delivery):
            raise Violation(f"I11: every hint of delivery {delivery} vanished, and no queue was lost")

    def patiently(self, work: Callable[[Transaction], Steps[Result]]) -> Steps[Result]:
        """Run a transaction until the database has taken it, as `runtime.loop.patiently` does."""
        while True:
            try:
                return (yield from self.once(work))
            except DatabaseLost:
                yield 1.0

    def once(self, work: Callable[[Transaction], Steps[Result]]) -> Steps[Result]:
        """Run a transaction once.

        Raises `DatabaseLost`.
        """
        transaction = self.store.begin()
        try:
            result = yield from work(transaction)
            yield STEP
            transaction.commit()
        finally:
            transaction.abort()
        return result
