"""Group commit: one caller waits for nobody, many share one commit, and none waits past its deadline."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from assistance.domain.errors import CommitUnknown, DatabaseUnavailable
from assistance.runtime.clock import Deadline
from assistance.runtime.group_commit import GroupCommit
from tests.builders import eventually


class Storage:
    """Doubles numbers; keeps the groups, and holds every one but the first back until it is let go."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.go = threading.Event()
        self.fails: type[Exception] | None = None

    def __call__(self, items: Sequence[int], _deadline: Deadline) -> Sequence[int]:
        self.groups.append(list(items))
        self.go.wait(10)
        if self.fails:
            raise self.fails
        return [item * 2 for item in items]


@pytest.fixture
def storage() -> Storage:
    return Storage()


def _soon() -> Deadline:
    return Deadline.after(10)


def _waiting(group: GroupCommit[int, int], number: int) -> None:
    eventually(lambda: len(group._waiting) == number)


def test_one_caller_alone_does_its_own_work(storage: Storage) -> None:
    storage.go.set()
    group = GroupCommit(storage, most=10, lanes=1)
    assert [group.submit(number, _soon()) for number in (1, 2, 3)] == [2, 4, 6]
    assert storage.groups == [[1], [2], [3]]


def test_those_who_come_while_somebody_is_at_work_share_the_next_commit(storage: Storage) -> None:
    group = GroupCommit(storage, most=10, lanes=1)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(group.submit, 0, _soon())
        eventually(lambda: len(storage.groups) == 1)
        others = [pool.submit(group.submit, number, _soon()) for number in range(1, 9)]
        _waiting(group, 8)
        storage.go.set()
        assert first.result() == 0
        assert [other.result() for other in others] == [2 * number for number in range(1, 9)]
    assert [len(each) for each in storage.groups] == [1, 8]


def test_a_group_is_no_larger_than_it_may_be_and_everybody_gets_a_turn(storage: Storage) -> None:
    group = GroupCommit(storage, most=3, lanes=1)
    with ThreadPoolExecutor(9) as pool:
        calls = [pool.submit(group.submit, 0, _soon())]
        eventually(lambda: len(storage.groups) == 1)
        calls += [pool.submit(group.submit, number, _soon()) for number in range(1, 9)]
        _waiting(group, 8)
        storage.go.set()
        assert [call.result() for call in calls] == [2 * number for number in range(9)]
    assert [len(each) for each in storage.groups] == [1, 3, 3, 2]


def test_the_caller_that_has_the_most_time_left_does_the_work_of_all() -> None:
    deadlines: list[float] = []
    begun, go = threading.Event(), threading.Event()

    def store(items: Sequence[int], deadline: Deadline) -> Sequence[int]:
        deadlines.append(deadline.remaining())
        begun.set()
        go.wait(10)
        return items

    group = GroupCommit(store, most=10, lanes=1)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(group.submit, 0, _soon())]
        begun.wait(10)
        for number, seconds in enumerate((20, 40, 30), start=1):
            calls.append(pool.submit(group.submit, number, Deadline.after(seconds)))
            _waiting(group, number)
        go.set()
        assert [call.result() for call in calls] == [0, 1, 2, 3]
    assert 30 < deadlines[1] <= 40


def test_as_many_groups_are_at_work_at_once_as_there_are_lanes(storage: Storage) -> None:
    group = GroupCommit(storage, most=10, lanes=2)
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(group.submit, number, _soon()) for number in range(3)]
        _waiting(group, 1)
        assert len(storage.groups) == 2
        storage.go.set()
        assert sorted(call.result() for call in calls) == [0, 2, 4]


def test_what_fails_fails_for_the_whole_group_and_for_nobody_after_it(storage: Storage) -> None:
    group = GroupCommit(storage, most=10, lanes=1)
    storage.fails = DatabaseUnavailable
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(group.submit, number, _soon()) for number in range(4)]
        _waiting(group, 3)
        storage.go.set()
        assert all(isinstance(call.exception(), DatabaseUnavailable) for call in calls)
    storage.fails = None
    assert group.submit(7, _soon()) == 14


def test_who_waits_past_its_deadline_leaves_unsent_and_is_told_so(storage: Storage) -> None:
    group = GroupCommit(storage, most=10, lanes=1)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(group.submit, 1, _soon())
        eventually(lambda: len(storage.groups) == 1)
        with pytest.raises(DatabaseUnavailable):
            group.submit(2, Deadline.after(0.05))
        storage.go.set()
        assert first.result() == 2
    assert storage.groups == [[1]]


@pytest.mark.parametrize("to_the_end", [False, True])
def test_who_is_being_stored_at_its_deadline_is_told_that_nobody_knows_or_waits_to_the_end(
    storage: Storage, to_the_end: bool
) -> None:
    group = GroupCommit(storage, most=10, lanes=1, to_the_end=to_the_end)
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(group.submit, 0, _soon())]
        eventually(lambda: len(storage.groups) == 1)
        calls.append(pool.submit(group.submit, 1, _soon()))
        _waiting(group, 1)
        late = pool.submit(group.submit, 2, Deadline.after(1))
        _waiting(group, 2)
        first, storage.go = storage.go, threading.Event()
        first.set()
        assert bool(wait([late], timeout=2).done) is not to_the_end
        storage.go.set()
        if to_the_end:
            assert late.result(10) == 4
        else:
            assert isinstance(late.exception(10), CommitUnknown)
        assert [call.result() for call in calls] == [0, 2]
    assert storage.groups == [[0], [1, 2]]


@pytest.mark.parametrize(
    ("gather_seconds", "sizes"), [(10.0, [1, 2, 2]), (0.05, [1, 2, 1, 1])], ids=["come", "stay away"]
)
def test_after_a_group_of_several_the_next_one_gathers_as_many_for_a_while(
    storage: Storage, gather_seconds: float, sizes: list[int]
) -> None:
    group = GroupCommit(storage, most=10, lanes=1, gather_seconds=gather_seconds)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(group.submit, 0, _soon())]
        eventually(lambda: len(storage.groups) == 1)
        calls += [pool.submit(group.submit, number, _soon()) for number in (1, 2)]
        _waiting(group, 2)
        storage.go.set()
        assert [call.result() for call in calls] == [0, 2, 4]
        third = pool.submit(group.submit, 3, _soon())
        if gather_seconds < 1:
            assert third.result() == 6
        assert group.submit(4, _soon()) == 8
        assert third.result() == 6
    assert [len(each) for each in storage.groups] == sizes


def test_a_group_waits_for_no_more_callers_than_are_expected(storage: Storage) -> None:
    expected = 2
    group = GroupCommit(storage, most=10, lanes=1, gather_seconds=30.0, expected=lambda: expected, kind=lambda n: n % 2)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(group.submit, 0, _soon())]
        eventually(lambda: len(storage.groups) == 1)
        calls += [pool.submit(group.submit, number, _soon()) for number in (2, 4)]
        _waiting(group, 2)
        storage.go.set()
        assert [call.result() for call in calls] == [0, 4, 8]
        first = pool.submit(group.submit, 6, _soon())
        eventually(lambda: group._free_lanes == 0)
        assert group.submit(7, _soon()) == 14, "the two that are expected are here: no other can come"
        assert first.result(10) == 12
        expected = 1
        assert group.submit(8, _soon()) == 16
    assert [len(each) for each in storage.groups] == [1, 2, 1, 1, 1]


def test_what_is_of_another_kind_waits_for_its_own_group_and_the_lowest_kind_goes_first(storage: Storage) -> None:
    group = GroupCommit(storage, most=10, lanes=1, kind=lambda number: number % 2)
    with ThreadPoolExecutor(7) as pool:
        calls = [pool.submit(group.submit, 0, _soon())]
        eventually(lambda: len(storage.groups) == 1)
        for waiting, (number, seconds) in enumerate(((1, 60), (2, 10), (3, 10), (4, 10), (5, 10)), start=1):
            calls.append(pool.submit(group.submit, number, Deadline.after(seconds)))
            _waiting(group, waiting)
        storage.go.set()
        assert [call.result() for call in calls] == [0, 2, 4, 6, 8, 10]
    assert storage.groups == [[0], [2, 4], [1, 3, 5]], "1 has the most time left, and does the work of 2 and 4 first"


def test_who_does_the_work_of_others_first_does_its_own_also_when_theirs_fails() -> None:
    groups: list[list[int]] = []
    begun, go = threading.Event(), threading.Event()

    def store(items: Sequence[int], _deadline: Deadline) -> Sequence[int]:
        groups.append(list(items))
        begun.set()
        go.wait(10)
        if 2 in items:
            raise DatabaseUnavailable
        return items

    group = GroupCommit(store, most=10, lanes=1, kind=lambda number: number % 2)
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(group.submit, 0, _soon())]
        begun.wait(10)
        calls.append(pool.submit(group.submit, 1, Deadline.after(60)))
        _waiting(group, 1)
        calls.append(pool.submit(group.submit, 2, _soon()))
        _waiting(group, 2)
        go.set()
        assert [calls[0].result(), calls[1].result()] == [0, 1]
        assert isinstance(calls[2].exception(), DatabaseUnavailable)
    assert groups == [[0], [2], [1]]
