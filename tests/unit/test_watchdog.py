"""The watchdog that ends calls which nothing else would end."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time

import pytest

from assistance.runtime.clock import Deadline
from assistance.runtime.watchdog import Watchdog, shut_socket


def test_an_action_runs_at_its_deadline_while_the_block_still_runs() -> None:
    fired = threading.Event()
    started = time.monotonic()
    with Watchdog().at(Deadline.after(0.05), fired.set):
        assert fired.wait(5)
    assert 0.05 <= time.monotonic() - started < 2


def test_a_block_that_ends_in_time_calls_its_action_off() -> None:
    watchdog, fired, marker = Watchdog(), threading.Event(), threading.Event()
    with watchdog.at(Deadline.after(0.05), fired.set):
        pass
    with watchdog.at(Deadline.after(0.1), marker.set):
        assert marker.wait(5)
    assert not fired.is_set()


def test_the_nearest_deadline_comes_first_whatever_the_order_of_the_calls() -> None:
    watchdog, order, done = Watchdog(), [], threading.Event()

    def last() -> None:
        order.append("late")
        done.set()

    with watchdog.at(Deadline.after(1.0), last), watchdog.at(Deadline.after(0.05), lambda: order.append("soon")):
        assert done.wait(5)
    assert order == ["soon", "late"]


def test_a_socket_that_is_gone_already_does_not_end_the_watchdog() -> None:
    watchdog, fired = Watchdog(), threading.Event()

    def fail() -> None:
        raise OSError("already closed")

    with watchdog.at(Deadline.after(0.0), fail), watchdog.at(Deadline.after(0.05), fired.set):
        assert fired.wait(5)


def test_shutting_a_socket_down_wakes_whoever_reads_from_it() -> None:
    near, far = socket.socketpair()
    with near, far, Watchdog().at(Deadline.after(0.05), lambda: shut_socket(near.fileno())):
        near.settimeout(5)
        assert near.recv(1) == b""


def test_shutting_a_closed_descriptor_down_is_an_os_error() -> None:
    near, far = socket.socketpair()
    number = near.fileno()
    near.close()
    far.close()
    with pytest.raises(OSError):
        shut_socket(number)


def test_a_forked_child_can_use_a_watchdog_whose_lock_was_held_during_the_fork() -> None:
    dog = Watchdog()
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with dog._changed:
            held.set()
            over.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)
    child = os.fork()
    if child == 0:
        signal.alarm(5)  # ends a child that hangs
        ended = threading.Event()
        with dog.at(Deadline.after(0.05), ended.set):
            os._exit(0 if ended.wait(3) else 1)
    over.set()
    holder.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
