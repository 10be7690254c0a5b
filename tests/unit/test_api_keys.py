"""API keys: made to be told from anything else, and read strictly."""

from __future__ import annotations

import hashlib
import re

import pytest

from assistance.clients.keys import new_key, parse_key


def test_a_new_key_has_a_readable_name_and_32_random_bytes() -> None:
    keys = [new_key() for _ in range(200)]
    for key in keys:
        assert re.fullmatch(r"asst_[0-9][0-9a-hjkmnp-tv-z]{7}_[A-Za-z0-9_-]{43}", key.text)
        assert key.text.startswith(f"asst_{key.prefix}_")
        assert parse_key(key.text) == key
        assert key.digest == hashlib.sha256(key.text.encode()).digest()
    assert len({key.text[-43:] for key in keys}) == 200


def test_a_key_that_is_logged_by_mistake_does_not_show_its_secret() -> None:
    key = new_key()
    assert key.text not in repr(key)
    assert key.text not in str([key])


GOOD = "asst_1bcdefgh_" + "A" * 43


@pytest.mark.parametrize(
    "text",
    [
        "",
        "asst_",
        GOOD[:-1],
        GOOD + "A",
        GOOD + "=",
        GOOD + "\n",
        " " + GOOD,
        GOOD.upper(),
        GOOD.replace("asst", "asssst"),
        GOOD.replace("_1", "_a"),
        GOOD.replace("A" * 43, "A" * 42 + "+"),
        GOOD.replace("A" * 43, "A" * 42 + "é"),
        GOOD.replace("1bcdefgh", "\N{ARABIC-INDIC DIGIT ONE}bcdefgh"),
    ],
)
def test_what_is_not_exactly_a_key_is_none(text: str) -> None:
    assert parse_key(GOOD) is not None
    assert parse_key(text) is None
