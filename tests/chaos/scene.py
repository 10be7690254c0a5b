"""What faults know of the installation that they strike, and the seeded order in which they do."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from assistance.embedded.postgres import EmbeddedPostgresError
from tests.chaos.members import Member
from tests.chaos.watch import Watch
from tests.chaos.world import World

TURN_SECONDS = 60.0
#: How long a fault whose turn it is waits until work flows again.
PATIENCE_SECONDS = 10.0


class Scene:
    """The world with what faults need to know about it: who is busy, what is in flight, what was stopped when."""

    def __init__(self, world: World, watch: Watch, seed: object) -> None:
        self.world = world
        self.watch = watch
        self.random = random.Random(f"{seed}-faults")
        self.began = time.monotonic()
        self.postgres_turn = threading.Lock()
        self.rabbit_turn = threading.Lock()
        self.sinks_turn = threading.Lock()
        self.api_stops: list[tuple[float, float]] = []

    @contextmanager
    def living(self, service: str) -> Iterator[Member | None]:
        """The process of a service that had most time to get busy, ours until the block ends; none if none lives."""
        deadline = time.monotonic() + TURN_SECONDS
        members = [member for member in self.world.members.values() if member.service == service]
        while time.monotonic() < deadline:
            member = max(members, key=lambda each: each.age if each.pid else -1.0)
            with turn(member.turn, 1.0) as ours:
                if ours and member.pid is not None and self.watch.busy(PATIENCE_SECONDS):
                    yield member
                    return
            time.sleep(0.1)
        yield None

    @contextmanager
    def api_stop(self, longer: float = 3.0) -> Iterator[None]:
        """Calls to an API that is stopped meanwhile are not judged by how long they took."""
        since = time.time()
        try:
            yield
        finally:
            self.api_stops.append((since, time.time() + longer))


Strike = Callable[["Scene"], bool]


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault; at density 1, about one strikes every `every_seconds` of a round."""

    name: str
    every_seconds: float
    strike: Strike


FAULTS: dict[str, Fault] = {}


def fault(name: str, every_seconds: float) -> Callable[[Strike], Strike]:
    """Register a fault."""

    def register(strike: Strike) -> Strike:
        FAULTS[name] = Fault(name, every_seconds, strike)
        return strike

    return register


def planned(
    seed: object, seconds: float, left_out: Collection[str] = (), *, density: float = 1.0
) -> list[tuple[float, Fault]]:
    """When which fault strikes in a round, in seconds from its beginning; the same for the same seed."""
    dice = random.Random(f"{seed}-plan")
    plan = []
    for each in (each for each in FAULTS.values() if each.name not in left_out):
        whole, rest = divmod(seconds * density / each.every_seconds, 1)
        plan += [(dice.uniform(0.02, 0.98) * seconds, each) for _ in range(int(whole) + (dice.random() < rest))]
    return sorted(plan, key=lambda moment: (moment[0], moment[1].name))


def heal_everything(scene: Scene) -> None:
    """End whatever a fault left behind, and wait until every process runs again."""
    for proxy in scene.world.proxies.values():
        proxy.heal()
    scene.world.tell_sinks(slack="ok", smtp="ok", webhook="ok")
    if scene.world.disk is not None:
        scene.world.disk.free()
    if scene.world.clock is not None:
        scene.world.clock.step("+0")
    with scene.postgres_turn:
        start_postgres(scene.world)
    with scene.rabbit_turn:
        scene.world.rabbit.start()
    for member in scene.world.members.values():
        member.signal_all(signal.SIGCONT)


@contextmanager
def turn(lock: threading.Lock, seconds: float = TURN_SECONDS) -> Iterator[bool]:
    """Whether it is our turn; faults on the same thing follow one another."""
    taken = lock.acquire(timeout=seconds)
    try:
        yield taken
    finally:
        if taken:
            lock.release()


def start_postgres(world: World) -> None:
    for _ in range(50):
        with contextlib.suppress(EmbeddedPostgresError):
            world.postgres.start()
            return
        time.sleep(0.2)
    world.postgres.start()
