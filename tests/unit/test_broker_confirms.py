"""The bookkeeping of publisher confirms."""

from __future__ import annotations

from assistance.broker.contract import Confirmation
from assistance.broker.rabbitmq.confirms import Batch, Confirms
from tests.broker_tools import message

CONFIRMED, RETURNED = Confirmation.CONFIRMED, Confirmation.RETURNED
NACKED, UNKNOWN = Confirmation.NACKED, Confirmation.UNKNOWN


def _sent(confirms: Confirms, *ids: str) -> Batch:
    batch = Batch([message(each) for each in ids])
    for index in range(len(ids)):
        confirms.sent(batch, index)
    return batch


def test_one_answer_settles_one_message_and_the_rest_stays_unknown() -> None:
    confirms = Confirms()
    batch = _sent(confirms, "a", "b", "c")
    confirms.answered(2, CONFIRMED, multiple=False)
    assert batch.results() == [UNKNOWN, CONFIRMED, UNKNOWN]
    assert not batch.done.is_set()


def test_a_multiple_answer_settles_everything_up_to_its_tag_that_was_open() -> None:
    confirms = Confirms()
    batch = _sent(confirms, "a", "b", "c", "d")
    confirms.answered(2, CONFIRMED, multiple=False)
    confirms.answered(3, NACKED, multiple=True)
    assert batch.results() == [NACKED, CONFIRMED, NACKED, UNKNOWN]


def test_a_multiple_answer_with_tag_zero_settles_everything() -> None:
    confirms = Confirms()
    batch = _sent(confirms, "a", "b")
    confirms.answered(0, CONFIRMED, multiple=True)
    assert batch.results() == [CONFIRMED, CONFIRMED]
    assert batch.done.is_set()


def test_a_returned_message_stays_returned_when_its_acknowledgement_comes() -> None:
    confirms = Confirms()
    batch = _sent(confirms, "a", "b", "c")
    confirms.returned("b")
    confirms.answered(3, CONFIRMED, multiple=True)
    assert batch.results() == [CONFIRMED, RETURNED, CONFIRMED]


def test_each_return_counts_for_one_of_several_messages_with_the_same_id() -> None:
    confirms = Confirms()
    batch = _sent(confirms, "a", "a", "a")
    confirms.returned("a")
    confirms.returned("a")
    confirms.answered(3, CONFIRMED, multiple=True)
    assert batch.results() == [RETURNED, RETURNED, CONFIRMED]


def test_late_answers_of_a_batch_that_was_given_up_do_not_count_for_the_next_one() -> None:
    confirms = Confirms()
    given_up = _sent(confirms, "a", "b")
    batch = _sent(confirms, "a", "b")
    confirms.returned("a")
    confirms.answered(2, CONFIRMED, multiple=True)
    assert given_up.results() == [RETURNED, CONFIRMED]
    assert batch.results() == [UNKNOWN, UNKNOWN]
    confirms.answered(4, CONFIRMED, multiple=True)
    assert batch.results() == [CONFIRMED, CONFIRMED]


def test_answers_for_unknown_tags_are_ignored() -> None:
    confirms = Confirms()
    batch = _sent(confirms, "a")
    confirms.answered(9, CONFIRMED, multiple=False)
    confirms.answered(1, CONFIRMED, multiple=False)
    confirms.answered(1, NACKED, multiple=False)
    assert batch.results() == [CONFIRMED]


def test_a_return_of_an_unknown_message_is_ignored() -> None:
    confirms = Confirms()
    batch = _sent(confirms, "a")
    confirms.returned("somebody else's")
    confirms.answered(1, CONFIRMED, multiple=False)
    assert batch.results() == [CONFIRMED]
