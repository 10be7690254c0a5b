"""Fault points: named places where a test can make a process die, hang, fail or stand still.

They sit between the steps of the flow at which a crash leaves something half done; the rows are those of
docs/failure-matrix.md. A process is armed by `ASSISTANCE_TEST_FAULTS` only, and says so in its log:

    relay.after_confirm=kill@3;consumer.after_send=hang:30@1;api.before_commit=raise:OperationalError@2

kills when this process comes to the first point for the third time, and so on. Actions: `kill` (SIGKILL to itself),
`exit` (without any clean-up), `stop` (SIGSTOP; whoever armed it continues it), `hang:SECONDS` and `raise:CLASS`.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import structlog

from assistance.domain.errors import BrokerUnavailable, DatabaseUnavailable, SettingsError
from assistance.runtime.clock import sleep

log = structlog.get_logger()

EXIT_CODE = 70


@dataclass(frozen=True, slots=True)
class Point:
    """Which row of the failure matrix a point stands for, in which process it lies, and what has happened there."""

    row: str
    process: str
    moment: str


#: Every fault point that there is; a test proves that each stands in the code exactly once.
POINTS: Mapping[str, Point] = MappingProxyType(
    {
        "api.before_begin": Point("A1", "api", "the call is understood, nothing is stored"),
        "api.after_request_insert": Point("A2", "api", "the request is inserted, its deliveries and hints are not"),
        "api.before_commit": Point("A3", "api", "everything is inserted and not committed"),
        "api.after_commit": Point("A5", "api", "everything is committed, the relay is not woken"),
        "api.before_answer": Point("A5", "api", "the relay is woken, the caller has no answer"),
        "relay.after_claim": Point("R1", "relay", "rows are claimed, nothing is published"),
        "relay.before_confirm": Point("R2", "relay", "the broker has confirmed, nobody has read it"),
        "relay.after_confirm": Point("R3", "relay", "the confirms are read, the rows are there"),
        "relay.before_commit": Point("R4", "relay", "the rows are deleted and not committed"),
        "relay.after_commit": Point("R5", "relay", "the deletion is committed, the relay does not know"),
        "consumer.before_claim": Point("C1", "consumer", "a hint is received, nothing is claimed"),
        "consumer.before_attempt": Point("C2", "consumer", "the delivery is claimed, its attempt is not written"),
        "consumer.after_claim": Point("C3", "consumer", "claim and attempt are committed, nothing is sent"),
        "consumer.after_send": Point("C6", "consumer", "the answer is there, nothing is recorded"),
        "consumer.before_settled": Point("C9", "consumer", "the result is written and not committed"),
        "consumer.after_settled": Point("C7", "consumer", "the result is committed, the hint is not acknowledged"),
        "consumer.before_retry": Point("C10", "consumer", "the failure is written, the retry's hint is not"),
        "consumer.before_burial": Point("C11", "consumer", "the delivery is written as dead, its letter is not"),
        "consumer.before_reject": Point("C12", "consumer", "delivery and letter are committed, the DLQ has no message"),
        "consumer.after_look": Point("C5", "consumer", "a look-up is answered, nothing is recorded"),
        "recorder.before_commit": Point("C12", "conciliation", "a dead letter's message is written and not committed"),
        "recorder.after_commit": Point("C12", "conciliation", "a dead letter's message is recorded, not acknowledged"),
        "timers.before_commit": Point("K1", "conciliation", "steps that are due are begun and not committed"),
        "timers.after_commit": Point("K1", "conciliation", "steps that are due are begun, the round goes on"),
        "conciliation.before_rearm": Point("K1", "conciliation", "leases are ended, no straggler is re-armed"),
        "conciliation.before_commit": Point("K1", "conciliation", "stragglers are re-armed and not committed"),
        "conciliation.after_rearm": Point("K1", "conciliation", "stragglers are re-armed, the round goes on"),
        "operations.before_commit": Point("K5", "conciliation", "a batch of an operation is done and not committed"),
        "operations.after_commit": Point("K5", "conciliation", "a batch of an operation is committed, it goes on"),
    }
)

_ORDER = re.compile(
    r"(?P<point>[a-z_.]+)=(?P<action>kill|exit|stop|hang|raise)(?::(?P<argument>[\w.]+))?@(?P<number>[1-9]\d*)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Order:
    action: str
    act: Callable[[], None]


_armed: dict[tuple[str, int], _Order] = {}
_reached: Counter[str] = Counter()
_lock = threading.Lock()


def fault_point(name: str) -> None:
    """Do what this process is armed to do here; nothing in production (a look at an empty dictionary)."""
    if _armed:
        _reach(name)


def arm(orders: str | None) -> None:
    """Arm this process as `orders` say, counting from now on; none disarms it.

    Raises `SettingsError`.
    """
    found = dict(map(_read, (orders or "").replace(" ", "").strip(";").split(";"))) if orders else {}
    with _lock:
        _reached.clear()
        _armed.clear()
        _armed.update(found)
    if found:
        log.warning("faults.armed", orders=orders)


def _reach(name: str) -> None:
    with _lock:
        _reached[name] += 1
        order = _armed.get((name, _reached[name]))
    if order is not None:
        log.warning("faults.acting", point=name, action=order.action, pid=os.getpid())
        order.act()


def _read(order: str) -> tuple[tuple[str, int], _Order]:
    match = _ORDER.fullmatch(order)
    if match is None or match["point"] not in POINTS:
        raise SettingsError(f"ASSISTANCE_TEST_FAULTS is wrong: {order!r} names no fault point with an action and @N.")
    action, argument = match["action"], match["argument"]
    return (match["point"], int(match["number"])), _Order(action=action, act=_action(order, action, argument))


def _action(order: str, action: str, argument: str | None) -> Callable[[], None]:
    if action == "raise" and argument is not None and argument in _ERRORS:
        return _raiser(_ERRORS[argument])
    if action == "hang" and argument is not None and re.fullmatch(r"\d+(\.\d+)?", argument):
        seconds = float(argument)
        return lambda: sleep(seconds)
    if action in _ENDS and argument is None:
        return _ENDS[action]
    raise SettingsError(
        f"ASSISTANCE_TEST_FAULTS is wrong: in {order!r}, hang needs seconds, raise needs one of"
        f" {', '.join(sorted(_ERRORS))}, and the others nothing."
    )


def _raiser(make: Callable[[], Exception]) -> Callable[[], None]:
    def act() -> None:
        raise make()

    return act


def _operational_error() -> Exception:
    import psycopg
    from sqlalchemy.exc import OperationalError

    return OperationalError("a statement", {}, psycopg.OperationalError("the fault point says so"))


_ENDS: Mapping[str, Callable[[], None]] = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    # To this very thread: sent to the process, it may reach another thread first while this one goes on.
    "stop": lambda: signal.pthread_kill(threading.get_ident(), signal.SIGSTOP),
    "exit": lambda: os._exit(EXIT_CODE),
}
_ERRORS: Mapping[str, Callable[[], Exception]] = {
    "DatabaseUnavailable": DatabaseUnavailable,
    "BrokerUnavailable": BrokerUnavailable,
    "OSError": lambda: OSError("the fault point says so"),
    "RuntimeError": lambda: RuntimeError("the fault point says so"),
    "OperationalError": _operational_error,
}
