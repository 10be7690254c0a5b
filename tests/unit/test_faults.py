"""Fault points: what stands in the code, and what each action does to a process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from assistance.domain.errors import BrokerUnavailable, DatabaseUnavailable, SettingsError
from assistance.runtime.faults import EXIT_CODE, POINTS, arm, fault_point
from assistance.settings import faults_ordered_by_a_test, load_settings

SOURCES = Path(__file__).resolve().parents[2] / "src" / "assistance"
POINT = "relay.after_confirm"


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    arm(None)


def test_every_declared_point_stands_in_the_code_exactly_once_and_no_other_one_does() -> None:
    sources = [file.read_text(encoding="utf-8") for file in SOURCES.rglob("*.py") if file.name != "faults.py"]
    named = Counter(name for source in sources for name in re.findall(r"\bfault_point\(\"([^\"]+)\"\)", source))
    assert named == dict.fromkeys(POINTS, 1)
    assert sum(source.count("fault_point(") for source in sources) == len(POINTS)  # none has a name made up at run time


def test_a_point_belongs_to_a_process_and_a_row_of_the_matrix() -> None:
    for name, point in POINTS.items():
        assert re.fullmatch(r"(api|relay|consumer|recorder|conciliation|timers|operations)\.[a-z_]+", name)
        assert point.process in ("api", "relay", "consumer", "conciliation")
        assert re.fullmatch(r"[ARKC]\d+", point.row)


def test_a_process_that_is_not_armed_passes_every_point_at_once() -> None:
    started = time.perf_counter()
    for _ in range(1000):
        for name in POINTS:
            fault_point(name)
    assert time.perf_counter() - started < len(POINTS) * 1000 * 5e-6  # 0.05 µs each on a quiet machine


def test_the_fault_strikes_at_the_named_time_only() -> None:
    arm(f"{POINT}=raise:OSError@2")
    fault_point(POINT)
    fault_point("relay.after_claim")
    with pytest.raises(OSError, match="the fault point says so"):
        fault_point(POINT)
    fault_point(POINT)


def test_one_point_may_strike_several_times_and_several_points_once() -> None:
    arm(f" {POINT}=raise:OSError@1 ; {POINT}=raise:RuntimeError@2 ; relay.after_claim=raise:RuntimeError@1 ;")
    with pytest.raises(OSError, match="says so"):
        fault_point(POINT)
    for name in (POINT, "relay.after_claim"):
        with pytest.raises(RuntimeError):
            fault_point(name)


def test_counting_starts_when_the_process_is_armed() -> None:
    arm("relay.after_claim=kill@1")
    fault_point(POINT)
    arm(f"{POINT}=raise:OSError@2")
    fault_point(POINT)
    with pytest.raises(OSError, match="says so"):
        fault_point(POINT)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("DatabaseUnavailable", DatabaseUnavailable),
        ("BrokerUnavailable", BrokerUnavailable),
        ("OSError", OSError),
        ("RuntimeError", RuntimeError),
        ("OperationalError", OperationalError),
    ],
)
def test_raising_makes_the_error_that_is_named(name: str, kind: type[Exception]) -> None:
    arm(f"{POINT}=raise:{name}@1")
    with pytest.raises(kind):
        fault_point(POINT)


def test_hanging_takes_its_time_and_goes_on() -> None:
    arm(f"{POINT}=hang:0.2@1")
    started = time.monotonic()
    fault_point(POINT)
    assert time.monotonic() - started >= 0.2


@pytest.mark.parametrize(
    "orders",
    [
        "relay.nowhere=kill@1",
        f"{POINT}=kill",
        f"{POINT}=kill@0",
        f"{POINT}=kill:9@1",
        f"{POINT}=hang@1",
        f"{POINT}=hang:soon@1",
        f"{POINT}=raise@1",
        f"{POINT}=raise:KeyboardInterrupt@1",
        f"{POINT}=explode@1",
        f"{POINT}=kill@1,relay.after_claim=kill@1",
        "kill",
    ],
)
def test_orders_that_mean_nothing_are_refused(orders: str) -> None:
    with pytest.raises(SettingsError, match="ASSISTANCE_TEST_FAULTS is wrong"):
        arm(orders)
    fault_point(POINT)


def test_an_armed_process_says_so_and_says_what_it_does_before_it_does_it() -> None:
    with capture_logs() as logs:
        arm(f"{POINT}=hang:0@1")
        fault_point(POINT)
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("faults.armed", "warning"),
        ("faults.acting", "warning"),
    ]
    assert (logs[1]["point"], logs[1]["action"], logs[1]["pid"]) == (POINT, "hang", os.getpid())


def test_only_a_variable_that_belongs_to_tests_arms_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSISTANCE_DATABASE_URL", "postgresql://h/d")
    monkeypatch.setenv("ASSISTANCE_BROKER_URL", "amqp://h")
    monkeypatch.delenv("ASSISTANCE_TEST_FAULTS", raising=False)
    assert faults_ordered_by_a_test() is None
    monkeypatch.setenv("ASSISTANCE_TEST_FAULTS", f"{POINT}=kill@1")
    load_settings()
    assert faults_ordered_by_a_test() == f"{POINT}=kill@1"
    monkeypatch.setenv("ASSISTANCE_FAULTS", f"{POINT}=kill@1")
    with pytest.raises(SettingsError, match="ASSISTANCE_FAULTS is not a setting"):
        load_settings()


def started(action: str) -> subprocess.Popen[bytes]:
    """A process that does something at its point, and else ends with code 5."""
    program = (
        "import sys; from assistance.runtime.faults import arm, fault_point\n"
        f"arm('{POINT}={action}@1'); fault_point('{POINT}'); sys.exit(5)"
    )
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(("action", "code"), [("kill", -signal.SIGKILL), ("exit", EXIT_CODE)])
def test_killing_and_leaving_end_the_process(action: str, code: int) -> None:
    assert started(action).wait(30) == code


def test_a_stopped_process_goes_on_once_it_is_continued() -> None:
    process = started("stop")
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    assert os.WSTOPSIG(status) == signal.SIGSTOP
    process.send_signal(signal.SIGCONT)
    assert process.wait(30) == 5
