"""Rounds of a campaign: load and faults, then quiet, then judgement."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos import faults  # noqa: F401 (registers every fault)
from tests.chaos.checker import Classes, Rules, Violation, judge
from tests.chaos.clients import CALL_SECONDS
from tests.chaos.evidence import Evidence, Poll, SinkLog, leaks, read_database, read_history
from tests.chaos.members import ROOT
from tests.chaos.scene import Fault, Scene, heal_everything, planned
from tests.chaos.watch import Watch
from tests.chaos.world import CHANNELS_OF, CONVERSATIONS, T_SECONDS, World

#: Clients pause above it, so that every fault meets fresh work and T measures recovery, not a queue.
_MOST_IN_FLIGHT = 600
_PAUSE_SECONDS = 0.1
#: How long a fault waits until work flows: what strikes an installation that is still down proves nothing.
_PATIENCE_SECONDS = 60.0
_AT_ONCE = 6  # faults; more of them would only strike what is down already
_CLIENT_END_SECONDS = 150.0

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a campaign is asked to do."""

    rounds: int
    seconds: float  # of faults in each round
    seed: int
    rate: float = 60.0  # requests a second that clients begin, at most
    threads: int = 16
    density: float = 0.5  # at 1, something is nearly always down, and less gets done in between
    t_bound: float = T_SECONDS
    disk_mebibytes: int = 2048  # of PostgreSQL, in memory; a thousand requests take about 5


@dataclass(kw_only=True)
class Round:
    """What happened in one round."""

    number: int
    planned: Counter[str] = field(default_factory=Counter)
    hit: Counter[str] = field(default_factory=Counter)
    recovered_after: float = 0.0  # T of this round, in seconds
    classes: Classes = field(default_factory=Classes)
    violations: list[Violation] = field(default_factory=list)


class Campaign:
    """Runs the rounds on one installation, in a folder that holds every artefact."""

    def __init__(self, plan: Plan, folder: Path, tell: Tell) -> None:
        self.plan = plan
        self.folder = folder
        self.world = World(folder, disk_mebibytes=plan.disk_mebibytes)
        self.rounds: list[Round] = []
        self.everything = Evidence()
        self.final: list[Violation] = []
        self.classes = Classes()
        self.seconds = 0.0
        self._tell = tell
        self._scene: Scene | None = None
        self._sink_log = SinkLog(folder / "received.jsonl", CONVERSATIONS)
        self._stops: list[tuple[float, float]] = []

    def run(self) -> None:
        """All rounds, or until one finds a violation."""
        began = time.monotonic()
        try:
            self.world.start()
            watch = Watch(self.world)
            try:
                for number in range(1, self.plan.rounds + 1):
                    self.rounds.append(self._round(number, watch))
                    if self.rounds[-1].violations:
                        return
                self._judge_everything()
            finally:
                watch.close()
        finally:
            self.world.stop()
            self.final += [Violation("I17", place, "a secret was written") for place in self._leaks()]
            self.world.remove_disk()
            self.seconds = time.monotonic() - began

    @property
    def violations(self) -> list[Violation]:
        return [violation for each in self.rounds for violation in each.violations] + self.final

    @property
    def hit_share(self) -> float:
        """How much of what was planned did hit; a run below 0.9 proves nothing."""
        planned_ = sum(each.planned.total() for each in self.rounds)
        return sum(each.hit.total() for each in self.rounds) / planned_ if planned_ else 0.0

    def kills(self) -> dict[str, int]:
        """Processes that were ended by SIGKILL, by service."""
        found: Counter[str] = Counter()
        for member in self.world.members.values():
            found[member.service] += member.killed
        return dict(found)

    def _round(self, number: int, watch: Watch) -> Round:
        found = Round(number=number)
        since = time.time()
        scene = Scene(self.world, watch, f"{self.plan.seed}-{number}")
        history = self.folder / f"history-{number}.jsonl"
        clients = self._start_clients(number, history)
        try:
            self._attack(found, scene, clients)
            heal_everything(scene)
            healed = time.monotonic()
            self._order(clients, "go", "end")
            self._wait_for_quiet(found, clients, watch, healed)
        finally:
            clients.kill()
            clients.wait()
            assert clients.stdin is not None
            clients.stdin.close()
        self._stops += scene.api_stops
        self._judge(found, history, watch, since)
        self.world.collect(self.folder / f"metrics-{number}")
        return found

    def _start_clients(self, number: int, history: Path) -> subprocess.Popen[bytes]:
        history.touch()
        options = {"seed": self.plan.seed, "history": history, "round": number, "rate": self.plan.rate}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        words += ["--threads", str(self.plan.threads)]
        words += [word for port in self.world.api_ports for word in ("--port", str(port))]
        with (self.folder / "clients.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.clients", *words],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=log, stderr=log,
            )  # fmt: skip

    def _attack(self, found: Round, scene: Scene, clients: subprocess.Popen[bytes]) -> None:
        """Strike as planned; each fault in a thread of its own, because some take a while."""
        plan = planned(
            f"{self.plan.seed}-{found.number}", self.plan.seconds, self.world.left_out, density=self.plan.density
        )
        log = self.folder / "faults.jsonl"
        strikes: list[tuple[Fault, Future[bool]]] = []
        began = time.monotonic()
        paused = False
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fault") as pool:
            while len(strikes) < len(plan) or not all(strike.done() for _, strike in strikes):
                while len(strikes) < len(plan) and began + plan[len(strikes)][0] <= time.monotonic():
                    each = plan[len(strikes)][1]
                    strikes.append((each, pool.submit(_strike, each, scene, log)))
                paused = self._pace(scene.watch, clients, paused=paused)
                done = sum(strike.done() for _, strike in strikes)
                self._tell(f"round {found.number}/{self.plan.rounds}  {done}/{len(plan)} faults")
                time.sleep(_PAUSE_SECONDS)
        for each, strike in strikes:
            found.planned[each.name] += 1
            found.hit[each.name] += strike.result()

    def _pace(self, watch: Watch, clients: subprocess.Popen[bytes], *, paused: bool) -> bool:
        """Keep the queue short; whether the clients are paused now."""
        in_flight = watch.in_flight() or 0
        if in_flight > _MOST_IN_FLIGHT and not paused:
            self._order(clients, "pause")
            return True
        if in_flight < _MOST_IN_FLIGHT / 2 and paused:
            self._order(clients, "go")
            return False
        return paused

    @staticmethod
    def _order(clients: subprocess.Popen[bytes], *words: str) -> None:
        assert clients.stdin is not None
        clients.stdin.write("".join(f"{word}\n" for word in words).encode())
        clients.stdin.flush()

    def _wait_for_quiet(self, found: Round, clients: subprocess.Popen[bytes], watch: Watch, healed: float) -> None:
        """Until clients have their answers and everything accepted is delivered or dead."""
        deadline = healed + _CLIENT_END_SECONDS
        while time.monotonic() < deadline:
            if clients.poll() is not None and watch.unfinished() == (0, 0):
                break
            self._tell(f"round {found.number}/{self.plan.rounds}  healed, waiting for what is in flight")
            time.sleep(_PAUSE_SECONDS)
        found.recovered_after = time.monotonic() - healed
        if found.recovered_after > self.plan.t_bound:
            left = watch.unfinished()
            what = f"{found.recovered_after:.1f} s after the last fault (T is {self.plan.t_bound:.0f} s)"
            found.violations.append(Violation("I2", f"round {found.number}", f"{left} unfinished {what}"))

    def _judge(self, found: Round, history: Path, watch: Watch, since: float) -> None:
        calls, polls = read_history(history)
        evidence = read_database(self.world.postgres.url, since)
        evidence.calls, evidence.polls = calls, polls
        evidence.shown = list(self._sink_log.read())
        evidence.queued = self._queues_when_drained(watch)
        evidence.ledger_violations = watch.ledger().violations
        violations, found.classes = judge(evidence, self._rules())
        found.violations += violations
        self.everything.calls += calls
        self.everything.polls += _last_of_each(polls)
        self.everything.shown += evidence.shown

    def _judge_everything(self) -> None:
        """Once more over all rounds: what came late, or struck what had been finished long ago."""
        whole = read_database(self.world.postgres.url)
        whole.calls, whole.polls = self.everything.calls, self.everything.polls
        whole.shown = self.everything.shown + list(self._sink_log.read())
        self.final, self.classes = judge(whole, self._rules())

    def _rules(self) -> Rules:
        return Rules(
            channels_of=CHANNELS_OF,
            with_lookup=tuple(CONVERSATIONS),
            answer_within=CALL_SECONDS * 0.8,
            stopped=tuple(self._stops),
        )

    @staticmethod
    def _queues_when_drained(watch: Watch) -> dict[str, int]:
        """Hints that were doubled may still wait for their turn after everything is delivered."""
        for _ in range(20):
            queued = watch.queued()
            if not any(queued.values()):
                break
            time.sleep(0.5)
        return queued

    def _leaks(self) -> list[str]:
        servers = (self.world.postgres.log_file, self.world.rabbit.log_file)
        return leaks(self.folder, self.world.canaries(), also=servers)


def _strike(each: Fault, scene: Scene, log: Path) -> bool:
    scene.watch.busy(_PATIENCE_SECONDS)
    began = time.time()
    hit = each.strike(scene)
    with log.open("a") as lines:
        lines.write(json.dumps({"fault": each.name, "began": began, "ended": time.time(), "hit": hit}) + "\n")
    return hit


def _last_of_each(polls: list[Poll]) -> list[Poll]:
    return list({poll.id: poll for poll in polls}.values())


def process_kills(kills: dict[str, int]) -> int:
    """Kills of our own processes: the third parties do not count."""
    return sum(count for service, count in kills.items() if service != "sinks")
