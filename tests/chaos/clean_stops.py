"""Clean stops under load: SIGTERM to one process after the other, which must cost nothing at all (I18).

A stop is clean when the process ends by itself within its grace period with exit code 0, no attempt is left in doubt,
and every message arrives exactly once: by e-mail as well, where a doubt would show as a second mail.

    python -m tests.chaos.clean_stops --stops 200 --report clean-stops.json
"""

from __future__ import annotations

import argparse
import json
import random
import re
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from sqlalchemy import text

from assistance.storage.database import Database
from tests.e2e.installation import Installation, installation, wait_until
from tests.servers import ControlledPostgres, RabbitServer

#: What a worker may take to end what it has in hand (docs/operations.md), and a little for the process itself.
GRACE_SECONDS = 27.0
_SERVICES = ("consumer", "relay", "consumer", "api", "consumer", "conciliation")
_CLIENTS = 3
_CALL_SECONDS = 0.15
_SETTLE_SECONDS = 90.0


@dataclass
class StopReport:
    """What happened."""

    stops: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    wrong_exits: list[str] = field(default_factory=list)
    accepted: int = 0
    doubtful_attempts: int = 0
    doubled: int = 0
    missing: int = 0
    ledger: str = ""

    @property
    def problems(self) -> list[str]:
        """Every broken promise in words; empty when all stops were clean."""
        return [
            *self.wrong_exits,
            *(f"{name}: {number}" for name, number in self._counts().items() if number),
            *([] if self.ledger.startswith(f"{self.accepted} requests = {self.accepted} delivered") else [self.ledger]),
        ]

    def _counts(self) -> dict[str, int]:
        return {
            "attempts in doubt": self.doubtful_attempts,
            "messages that came twice": self.doubled,
            "messages that never came": self.missing,
        }


def stop_cleanly(running: Installation, database_url: str, *, stops: int, seed: int) -> StopReport:
    """Stop `stops` processes, one at a time, while clients post and every call to Slack takes a moment."""
    report, pick = StopReport(), random.Random(seed)
    running.control({"slack": {"fail_next": 1_000_000, "with": "slow", "seconds": _CALL_SECONDS}})
    with _load(running) as texts:
        for number in range(stops):
            service = _SERVICES[number % len(_SERVICES)]
            time.sleep(pick.uniform(0.05, 0.4))
            _stop_one(running, service, report)
            _show(number + 1, stops)
    report.accepted = len(texts)
    _read_results(running, database_url, texts, report)
    return report


def _stop_one(running: Installation, service: str, report: StopReport) -> None:
    # A process that is still importing its modules has nothing in hand, and SIGTERM simply ends it.
    pid = running.processes[service].pid
    wait_until(lambda: _catches_sigterm(pid), seconds=30, what=f"{service} listens to SIGTERM")
    started = time.monotonic()
    code = running.terminate(service, seconds=GRACE_SECONDS + 30)
    took = time.monotonic() - started
    report.stops[service] += 1
    report.seconds.append(took)
    if code != 0 or took > GRACE_SECONDS:
        report.wrong_exits.append(f"{service} ended with {code} after {took:.1f} s")
    running.start(service)


def _catches_sigterm(pid: int) -> bool:
    caught = re.search(r"SigCgt:\s*([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text())
    return caught is not None and bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


@contextmanager
def _load(running: Installation) -> Iterator[list[str]]:
    """Careful clients that post while the block runs; afterwards the list holds every accepted text."""
    accepted: list[str] = []
    failed: list[BaseException] = []
    over = threading.Event()

    def client(name: int) -> None:
        number = 0
        try:
            while not over.is_set():
                words = f"request {name}-{number}"
                running.post_until_accepted("both", words)
                accepted.append(words)
                number += 1
                time.sleep(0.3)
        except AssertionError as error:
            failed.append(error)

    threads = [threading.Thread(target=client, args=(name,), name=f"client-{name}") for name in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield accepted
    finally:
        over.set()
        for thread in threads:
            thread.join()
    if failed:
        raise failed[0]


def _read_results(running: Installation, database_url: str, texts: list[str], report: StopReport) -> None:
    running.control({"slack": {"fail_next": 0}})
    everything = f"{report.accepted} requests = {report.accepted} delivered"
    wait_until(lambda: running.ledger().startswith(everything), seconds=_SETTLE_SECONDS, what="all is delivered")
    ledger = running.cli("ledger")
    report.ledger = ledger.stdout.strip() if ledger.returncode == 0 else f"the ledger does not close: {ledger.stdout}"
    for arrived in (running.slack_messages(), running.mails()):
        report.doubled += sum(1 for number in arrived.values() if number > 1)
        report.missing += len(set(texts) - set(arrived))
    database = Database(database_url)
    try:
        with database.transaction() as connection:
            in_doubt = "SELECT count(*) FROM attempts WHERE outcome <> 'delivered'"
            report.doubtful_attempts = connection.scalar(text(in_doubt)) or 0
    finally:
        database.close()


def _show(done: int, of: int) -> None:
    if sys.stderr.isatty():
        print(f"\rclean stops {done}/{of}", end="" if done < of else "\n", file=sys.stderr, flush=True)
    elif done % 20 == 0 or done == of:
        print(f"clean stops {done}/{of}", file=sys.stderr, flush=True)


def main() -> int:
    """Run the campaign on servers of its own; exit code 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.clean_stops", description="Clean stops under load.")
    parser.add_argument("--stops", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="assistance-stops-")))
        postgres, rabbit = ControlledPostgres(folder / "postgres"), RabbitServer(folder / "rabbit")
        for server in (postgres, rabbit):
            closing.callback(server.kill)
            server.start()
        running = closing.enter_context(installation(folder, postgres.url, rabbit.url))
        report = stop_cleanly(running, postgres.url, stops=options.stops, seed=options.seed)
    seconds = {"median_seconds": round(median(report.seconds), 2), "worst_seconds": round(max(report.seconds), 2)}
    summary = {name: value for name, value in vars(report).items() if name != "seconds"} | seconds
    summary |= {"seed": options.seed, "problems": report.problems}
    print(json.dumps(summary, indent=2))
    if options.report:
        options.report.write_text(json.dumps(summary, indent=2) + "\n")
    for problem in report.problems:
        print(f"broken: {problem}")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
