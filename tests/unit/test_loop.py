"""The loop around a single pass, and waiting for a server."""

from __future__ import annotations

import threading

import pytest

from assistance.domain.errors import BrokerUnavailable, DatabaseUnavailable, SettingsError
from assistance.runtime import loop
from assistance.runtime.clock import Backoff
from assistance.runtime.loop import Stopped, patiently, run_passes


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "Backoff", lambda: Backoff(first=0.001, most=0.002))


def test_an_action_is_tried_until_its_server_is_there() -> None:
    answers = [DatabaseUnavailable(), BrokerUnavailable(), None]

    def action() -> str:
        error = answers.pop(0)
        if error:
            raise error
        return "done"

    assert patiently(action, threading.Event(), waiting_for="database") == "done"
    assert not answers


def test_waiting_for_a_server_ends_when_asked_to_stop() -> None:
    stop = threading.Event()

    def away() -> None:
        stop.set()
        raise DatabaseUnavailable

    with pytest.raises(Stopped):
        patiently(away, stop, waiting_for="database")


def test_with_a_grace_a_server_that_returns_soon_after_the_stop_is_waited_for() -> None:
    stop = threading.Event()
    tries: list[int] = []

    def away_twice() -> str:
        stop.set()
        tries.append(1)
        if len(tries) < 3:
            raise DatabaseUnavailable
        return "written"

    assert patiently(away_twice, stop, waiting_for="database", grace_seconds=10) == "written"


def test_a_grace_ends() -> None:
    stop = threading.Event()
    stop.set()

    def away() -> None:
        raise DatabaseUnavailable

    with pytest.raises(Stopped):
        patiently(away, stop, waiting_for="database", grace_seconds=0.1)


def test_an_error_that_time_does_not_mend_is_not_waited_out() -> None:
    def wrong() -> None:
        raise SettingsError("wrong")

    with pytest.raises(SettingsError):
        patiently(wrong, threading.Event(), waiting_for="database")


def test_a_loop_survives_every_failing_pass_and_ends_when_asked() -> None:
    stop = threading.Event()
    passes: list[str] = []

    def one_pass() -> bool:
        passes.append("pass")
        if len(passes) == 1:
            raise BrokerUnavailable
        if len(passes) == 2:
            raise ZeroDivisionError
        if len(passes) == 4:
            stop.set()
        return True

    def wait() -> None:
        raise AssertionError("there was more to do")

    run_passes("test", one_pass, wait, stop)
    assert len(passes) == 4


def test_a_loop_waits_after_a_pass_that_left_nothing() -> None:
    stop = threading.Event()
    run_passes("test", lambda: False, stop.set, stop)
    assert stop.is_set()
