"""Failing clusters under load: `python -m tests.chaos.clusters --kind rabbitmq|postgres --times 5 [--report FILE]`.

`rabbitmq`: the node that leads the queue is killed and started again, `--times` times; then two of three nodes are
away for 20 s. `postgres`: the primary is killed, its synchronous standby promoted and a new standby built, `--times`
times. Every request that was told 202 has to be at Slack once, and nothing else; exit code 1 if not.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from assistance.broker.topology import queue_of
from assistance.storage.migrate import migrate
from tests.chaos.cluster_load import Answers, Load
from tests.e2e.installation import Installation, installation, wait_until, wait_while_growing
from tests.servers.cluster_postgres import PostgresCluster
from tests.servers.cluster_rabbit import RabbitCluster
from tests.servers.postgres import ControlledPostgres
from tests.servers.rabbit import RabbitServer

_QUEUE = queue_of("sales-team")
#: RabbitMQ 3.10 leaves a quorum queue without a leader for ever when it is killed within moments of its declaration.
_QUEUE_MATURES_SECONDS = 3.0
#: Moderate, because the point is the faults: several servers share a small machine.
PER_SECOND = 10.0
#: Load before and after each fault.
_CALM_SECONDS = 3.0
#: Without progress for longer than this nothing more is expected: reconnecting, setting up a connection that hung, the
#: lease, `check_after` and a round of conciliation take less, also on a busy machine.
_STUCK_SECONDS = 90.0

Say = Callable[[str], None]


@dataclass
class Result:
    """What a run showed; `doubled` and `unexpected` count messages at Slack, `answers` the API's statuses."""

    kind: str
    version: str
    faults: list[str] = field(default_factory=list)
    accepted: int = 0
    lost: int = 0
    doubled: int = 0
    unexpected: int = 0
    given_up: int = 0
    answers: dict[int, int] = field(default_factory=dict)
    answers_without_majority: dict[int, int] = field(default_factory=dict)
    slowest_answer_seconds: float = 0.0
    settled_after_seconds: float = 0.0
    seconds: float = 0.0
    ledger: str = ""
    ledger_closes: bool = False

    @property
    def good(self) -> bool:
        """Nothing lost, doubled, unexpected, refused for ever or unaccounted for; no answer but 202 and 503."""
        none = not (self.lost or self.doubled or self.unexpected or self.given_up)
        return none and self.ledger_closes and self.accepted > 0 and set(self.answers) <= {202, 503}


def rabbitmq(
    folder: Path, times: int, *, per_second: float = PER_SECOND, without_majority: float = 20.0, say: Say = print
) -> Result:
    """Kill the leader `times` times, then take the majority away for a while (0 leaves that out)."""
    began = time.monotonic()
    with _postgres(folder / "postgres") as postgres, _rabbit_cluster(folder / "rabbit") as cluster:
        with _installation(folder, postgres.url, cluster.url) as running:
            result = Result("rabbitmq", cluster.version)
            time.sleep(_QUEUE_MATURES_SECONDS)
            with Load(running, per_second=per_second) as load:
                for number in range(1, times + 1):
                    time.sleep(_CALM_SECONDS)
                    result.faults.append(_kill_leader(cluster))
                    say(f"{number}: {result.faults[-1]}")
                if without_majority:
                    time.sleep(_CALM_SECONDS)
                    result.answers_without_majority = dict(_lose_majority(cluster, load, without_majority))
                    result.faults.append(f"majority away for {without_majority:g} s")
                    say(result.faults[-1])
                time.sleep(_CALM_SECONDS)
            _settle(running, load.answers, result)
    result.seconds = time.monotonic() - began
    return result


def postgres(folder: Path, times: int, *, per_second: float = PER_SECOND, say: Say = print) -> Result:
    """Kill the primary, promote the standby and build a new one, `times` times."""
    began = time.monotonic()
    with _postgres_cluster(folder / "postgres") as cluster, _rabbit(folder / "rabbit") as rabbit:
        with _installation(folder, cluster.url, rabbit.url) as running:
            result = Result("postgres", cluster.version)
            with Load(running, per_second=per_second) as load:
                for number in range(1, times + 1):
                    time.sleep(_CALM_SECONDS)
                    before = load.snapshot()
                    cluster.fail_over()
                    cluster.build_standby()
                    wait_until(
                        lambda before=before: load.statuses_since(before)[202],  # type: ignore[misc]
                        seconds=60,
                        what="the new primary takes requests",
                    )
                    result.faults.append(f"primary killed, standby at port {cluster.primary.port} promoted")
                    say(f"{number}: {result.faults[-1]}")
                time.sleep(_CALM_SECONDS)
            _settle(running, load.answers, result)
    result.seconds = time.monotonic() - began
    return result


def _kill_leader(cluster: RabbitCluster) -> str:
    wait_until(lambda: cluster.leader_of(_QUEUE), seconds=60, what="the queue has a leader")
    leader = cluster.leader_of(_QUEUE)
    assert leader is not None
    leader.kill()
    wait_until(lambda: cluster.leader_of(_QUEUE) not in (None, leader), seconds=60, what="another node leads")
    leader.start()
    return f"leader {cluster.nodes.index(leader) + 1} killed and started again"


def _lose_majority(cluster: RabbitCluster, load: Load, seconds: float) -> Counter[int]:
    lost = cluster.nodes[:2]
    for node in lost:
        node.kill()
    before = load.snapshot()
    time.sleep(seconds)
    answered = load.statuses_since(before)
    cluster.start_nodes(lost)
    return answered


def _settle(running: Installation, answers: Answers, result: Result) -> None:
    """Wait until every accepted request is at Slack and the ledger says so, then count."""
    healed = time.monotonic()
    expected = set(answers.accepted)
    with suppress(AssertionError):  # it is counted below
        arrived = lambda: len(expected & set(running.slack_messages()))  # noqa: E731
        wait_while_growing(arrived, len(expected), stuck_seconds=_STUCK_SECONDS, what="everything is at Slack")
    result.settled_after_seconds = time.monotonic() - healed
    deadline = time.monotonic() + _STUCK_SECONDS
    wanted = f"{len(expected)} requests = {len(expected)} delivered"
    while not (result.ledger_closes or time.monotonic() > deadline):
        ledger = running.cli("ledger")
        result.ledger = ledger.stdout.strip()
        result.ledger_closes = ledger.returncode == 0 and result.ledger.startswith(wanted)
    messages = running.slack_messages()
    result.accepted, result.given_up = len(expected), len(answers.given_up)
    result.lost = len(expected - set(messages))
    result.unexpected = len(set(messages) - expected)
    result.doubled = sum(times - 1 for times in messages.values())
    result.answers, result.slowest_answer_seconds = dict(answers.statuses), answers.slowest


@contextmanager
def _installation(folder: Path, database_url: str, broker_url: str) -> Iterator[Installation]:
    place = folder / "installation"
    place.mkdir(parents=True)
    with installation(place, database_url, broker_url) as running:
        yield running


@contextmanager
def _postgres(folder: Path) -> Iterator[ControlledPostgres]:
    server = ControlledPostgres(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextmanager
def _postgres_cluster(folder: Path) -> Iterator[PostgresCluster]:
    cluster = PostgresCluster(folder)
    try:
        cluster.start(migrate)
        yield cluster
    finally:
        cluster.stop()


@contextmanager
def _rabbit(folder: Path) -> Iterator[RabbitServer]:
    server = RabbitServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextmanager
def _rabbit_cluster(folder: Path) -> Iterator[RabbitCluster]:
    cluster = RabbitCluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.clusters")
    parser.add_argument("--kind", choices=("rabbitmq", "postgres"), required=True)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--per-second", type=float, default=PER_SECOND, help="requests posted each second")
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="assistance_clusters_"))
    run = rabbitmq if arguments.kind == "rabbitmq" else postgres
    result = run(folder, arguments.times, per_second=arguments.per_second)
    if result.good:
        shutil.rmtree(folder)
    else:
        print(f"logs and data stay in {folder}")
    report = json.dumps(asdict(result) | {"good": result.good}, indent=2)
    print(report)
    if arguments.report:
        arguments.report.write_text(report + "\n")
    return 0 if result.good else 1


if __name__ == "__main__":
    sys.exit(main())
