"""What the campaign does to the installation: every fault by name.

A fault answers whether it hit: whether what it strikes was alive and work was flowing. One that takes a while heals
itself before it returns. Adding a fault is one function with `@fault`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

import psycopg

from assistance.domain.errors import AssistanceError
from tests.chaos.members import Member
from tests.chaos.scene import PATIENCE_SECONDS, TURN_SECONDS, Scene, Strike, fault, start_postgres, turn
from tests.chaos.world import CHANNEL_SECONDS, LEASE_SECONDS, SERVICES
from tests.proxy import (
    Bandwidth,
    Direction,
    DropAfter,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
    Toxic,
)
from tests.servers.faults import disk_alarm, kill_a_backend, memory_alarm

_FROZEN_SECONDS = LEASE_SECONDS + 1.5
_OUTAGE_SECONDS = CHANNEL_SECONDS + 1.0
_ALARM_SECONDS = 3.0
_FELT_SECONDS = 20.0
#: A broker that is killed within moments of declaring a quorum queue may leave it without a leader for ever.
_NEW_QUEUES_SECONDS = 4.0


def _kill_of(service: str, kill: Callable[[Member], bool] = Member.kill) -> Strike:
    def strike(scene: Scene) -> bool:
        with scene.living(service) as member, scene.api_stop() if service == "api" else contextlib.nullcontext():
            return member is not None and kill(member)

    return strike


def _freeze_of(service: str) -> Strike:
    def strike(scene: Scene) -> bool:
        with scene.living(service) as member, scene.api_stop() if service == "api" else contextlib.nullcontext():
            if member is None or not member.signal_all(signal.SIGSTOP):
                return False
            try:
                time.sleep(_FROZEN_SECONDS)
                return member.is_frozen()
            finally:
                member.signal_all(signal.SIGCONT)

    return strike


for _service, _every in (("api", 25.0), ("relay", 4.0), ("consumer", 3.5), ("conciliation", 4.5), ("sinks", 20.0)):
    fault(f"kill {_service}", _every)(_kill_of(_service))
for _service, _every in (("api", 80.0), ("relay", 60.0), ("consumer", 25.0), ("conciliation", 80.0), ("sinks", 60.0)):
    fault(f"freeze {_service}", _every)(_freeze_of(_service))


fault("kill api worker", 25.0)(_kill_of("api", Member.kill_child))
fault("kill api master", 100.0)(_kill_of("api", Member.kill_master))


@fault("kill all processes", 45.0)
def kill_all(scene: Scene) -> bool:
    members = [member for member in scene.world.members.values() if member.service in SERVICES]
    with contextlib.ExitStack() as turns, scene.api_stop(longer=6.0):
        ours = [member for member in members if turns.enter_context(turn(member.turn))]
        busy = scene.watch.busy()
        killed = sum(member.kill() for member in ours)
    return busy and killed > len(members) // 2


@fault("kill postmaster", 9.0)
def kill_postmaster(scene: Scene) -> bool:
    with turn(scene.postgres_turn) as ours:
        hit = ours and scene.world.postgres.pid is not None and scene.watch.busy(PATIENCE_SECONDS)
        if ours:
            scene.world.postgres.kill()
            start_postgres(scene.world)
        return hit


@fault("kill one backend", 20.0)
def kill_backend(scene: Scene) -> bool:
    """PostgreSQL then ends every other session as well and recovers, all by itself."""
    with turn(scene.postgres_turn) as ours:
        busy = scene.watch.busy(PATIENCE_SECONDS)
        with contextlib.suppress(AssistanceError, psycopg.Error, ProcessLookupError):
            return ours and kill_a_backend(scene.world.postgres.url, "assistance-%") is not None and busy
        return False


@fault("disk of postgres full", 100.0)
def disk_full(scene: Scene) -> bool:
    """PostgreSQL refuses, or even ends; it goes on once there is room."""
    disk = scene.world.disk
    with turn(scene.postgres_turn) as ours, scene.api_stop():
        if not ours or disk is None:
            return False
        busy = scene.watch.busy(PATIENCE_SECONDS)
        disk.fill()
        try:
            time.sleep(_ALARM_SECONDS)
        finally:
            disk.free()
            start_postgres(scene.world)
        return busy


@fault("clock step", 45.0)
def clock_step(scene: Scene) -> bool:
    """The wall clocks of some processes are off from now on."""
    if scene.world.clock is None:
        return False
    scene.world.clock.step(f"{scene.random.randint(-86_400, 86_400):+d}")
    return scene.watch.busy()


@fault("freeze postgres", 90.0)
def freeze_postgres(scene: Scene) -> bool:
    with turn(scene.postgres_turn) as ours, scene.api_stop():
        if not ours or scene.world.postgres.pid is None:
            return False
        busy = scene.watch.busy(PATIENCE_SECONDS)
        scene.world.postgres.freeze()
        try:
            time.sleep(_FROZEN_SECONDS)
        finally:
            scene.world.postgres.thaw()
        return busy


@fault("kill rabbit", 19.0)
def kill_rabbit(scene: Scene) -> bool:
    time.sleep(max(0.0, scene.began + _NEW_QUEUES_SECONDS - time.monotonic()))
    with turn(scene.rabbit_turn) as ours:
        hit = ours and scene.world.rabbit.pid is not None and scene.watch.busy(PATIENCE_SECONDS)
        if ours:
            scene.world.rabbit.kill()
            scene.world.rabbit.start()
        return hit


@fault("freeze rabbit", 120.0)
def freeze_rabbit(scene: Scene) -> bool:
    with turn(scene.rabbit_turn) as ours:
        group = scene.world.rabbit.pid if ours else None
        if group is None:
            return False
        busy = scene.watch.busy(PATIENCE_SECONDS)
        os.killpg(group, signal.SIGSTOP)
        try:
            time.sleep(_FROZEN_SECONDS)
        finally:
            os.killpg(group, signal.SIGCONT)
        return busy


@fault("alarm of rabbit", 120.0)
def alarm(scene: Scene) -> bool:
    """Out of memory or out of disk: publishers are blocked until it ends."""
    with turn(scene.rabbit_turn) as ours:
        if not ours:
            return False
        with scene.random.choice((disk_alarm, memory_alarm))(scene.world.rabbit):
            busy = scene.watch.busy(PATIENCE_SECONDS)
            time.sleep(_ALARM_SECONDS)
    return busy


@fault("third party fails", 12.0)
def sink_fails(scene: Scene) -> bool:
    door = scene.random.choice(("slack", "slack", "smtp", "webhook"))
    mode = scene.random.choice(("error", "drop", "drop", "late", "stall"))
    with turn(scene.sinks_turn) as ours:
        if not ours:
            return False
        scene.world.tell_sinks(**{door: mode})
        deadline = time.monotonic() + _FELT_SECONDS
        time.sleep(_OUTAGE_SECONDS)
        while not (hits := scene.world.tell_sinks().get(door, 0)) and time.monotonic() < deadline:
            time.sleep(0.2)
        scene.world.tell_sinks(**{door: "ok"})
        return hits > 0


@fault("third party refuses", 60.0)
def sink_refuses(scene: Scene) -> bool:
    door = scene.random.choice(("slack", "smtp", "webhook"))
    with turn(scene.sinks_turn) as ours:
        if not ours:
            return False
        busy = scene.watch.busy(PATIENCE_SECONDS)
        scene.world.tell_sinks(**{door: "refuse"})
        time.sleep(_OUTAGE_SECONDS)
        scene.world.tell_sinks(**{door: "ok"})
        return busy


@fault("hints repeated", 30.0)
def hints_repeated(scene: Scene) -> bool:
    """Stale and doubled hints, in any order."""
    deadline = time.monotonic() + TURN_SECONDS
    while not scene.watch.repeat_hints(scene.random):
        if time.monotonic() > deadline:
            return False
        time.sleep(1.0)
    return True


@fault("network", 10.0)
def network(scene: Scene) -> bool:
    """One connection of the second processes behaves as networks do, until that was felt."""
    link, words = scene.random.choice(_LINKS)
    proxy = scene.world.proxies[link]
    toxic = scene.random.choice([*_TOXICS, *(DropAfter(word, forwarded=True) for word in words for _ in range(3))])
    before, deadline = proxy.hits, time.monotonic() + _FELT_SECONDS
    with scene.api_stop():
        proxy.add(toxic, scene.random.choice(_DIRECTIONS))
        time.sleep(scene.random.uniform(1.0, _FROZEN_SECONDS))
        while proxy.hits == before and time.monotonic() < deadline:
            time.sleep(0.1)
        hit = proxy.hits > before
        proxy.heal()
    return hit


_DIRECTIONS: tuple[Direction, ...] = ("up", "down", "both")
_TOXICS: tuple[Toxic, ...] = (
    Latency(200, 200),
    Bandwidth(20),
    Slicer(7, 500),
    LimitData(3000),
    ResetPeer(200),
    Timeout(),
    Timeout(1000),
    SlowClose(1000),
)
#: Links that are in use, and the words after which a cut leaves it open whether the other side acted.
_LINKS: tuple[tuple[str, tuple[bytes, ...]], ...] = (
    ("api-postgres", (b"COMMIT", b"INSERT INTO")),
    ("relay-postgres", (b"COMMIT", b"DELETE")),
    ("consumer-postgres", (b"COMMIT", b"UPDATE")),
    ("conciliation-postgres", (b"COMMIT", b"UPDATE")),
    ("relay-rabbit", (rb"assistance\.delivery\.requested",)),
    ("consumer-rabbit", (rb"\x00\x3c\x00\x50",)),  # basic.ack
    ("slack", (b"POST /",)),
    ("smtp", (rb"\r\n\.\r\n",)),
    ("webhook", (b"POST /",)),
)
