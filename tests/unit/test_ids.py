"""Ids made in this process."""

from __future__ import annotations

import re
import time
import uuid

from assistance.runtime.ids import new_ref, token, uuid7, worker_name


def test_a_key_is_a_version_7_uuid_that_tells_its_millisecond() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid7()
    after = time.time_ns() // 1_000_000
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before <= made.int >> 80 <= after


def test_keys_made_later_sort_later() -> None:
    made = []
    for _ in range(50):
        made.append(uuid7())
        time.sleep(0.000_01)
    assert made == sorted(made)


def test_ten_thousand_keys_are_all_different() -> None:
    assert len({uuid7() for _ in range(10_000)}) == 10_000


def test_a_short_code_has_no_letter_that_is_misread_aloud() -> None:
    codes = {new_ref() for _ in range(2_000)}
    assert len(codes) > 1_990
    assert all(re.fullmatch(r"A-[0-9A-HJKMNP-TV-Z]{6}", code) for code in codes)


def test_a_token_is_random() -> None:
    assert token() != token()
    assert token().version == 4


def test_a_worker_is_named_by_service_host_and_process() -> None:
    assert re.fullmatch(r"relay@.+:\d+", worker_name("relay"))
