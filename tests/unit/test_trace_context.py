"""The header `traceparent`: what the standard allows is read, everything else is as if it were not there."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistance.tracing.context import TraceContext, parse, span_id_of_attempt

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{SPAN}-01"


def test_a_header_is_read_and_written_back_as_it_was() -> None:
    context = parse(GOOD)
    assert context == TraceContext(TRACE, SPAN, 1)
    assert context.is_sampled
    assert context.is_remote
    assert str(context) == GOOD


def test_a_trace_that_is_not_sampled_stays_so() -> None:
    context = parse(f"00-{TRACE}-{SPAN}-00")
    assert context is not None
    assert not context.is_sampled
    assert str(context).endswith("-00")


def test_flags_that_nobody_knows_are_not_passed_on() -> None:
    assert str(parse(f"00-{TRACE}-{SPAN}-ff")) == f"00-{TRACE}-{SPAN}-03"


@pytest.mark.parametrize("header", [f"cc-{TRACE}-{SPAN}-01", f"01-{TRACE}-{SPAN}-01-what-comes-later"])
def test_of_a_version_to_come_the_known_fields_are_read(header: str) -> None:
    assert str(parse(header)) == GOOD


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        b"bytes",
        7,
        "0",
        GOOD[:-1],
        GOOD + "0",
        GOOD + "-",
        GOOD + "-more",
        GOOD + "\n",
        " " + GOOD,
        f"{GOOD},{GOOD}",
        GOOD.upper(),
        f"ff-{TRACE}-{SPAN}-01",
        f"0x-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-0g",
        f"00_{TRACE}_{SPAN}_01",
        f"00-{chr(0x660) * 32}-{SPAN}-01",
        f"01-{TRACE}-{SPAN}-01x",
        "'; DROP TABLE requests; --".ljust(55),
        "0" * 100_000,
        GOOD + "-" * 100_000,
    ],
)
def test_what_breaks_the_rules_is_ignored(header: object) -> None:
    assert parse(header) is None


@given(
    st.text(max_size=120) | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.{0,9}", fullmatch=True)
)
def test_whatever_comes_in_what_goes_out_is_a_good_header_of_our_version(header: str) -> None:
    context = parse(header)
    if context is not None:
        assert len(str(context)) == 55
        assert parse(str(context)) == context


def test_the_span_of_an_attempt_has_an_id_that_everybody_can_work_out() -> None:
    delivery = UUID(int=1)
    ids = {span_id_of_attempt(delivery, series, number) for series in (1, 2) for number in (1, 2)}
    assert len(ids) == 4
    assert ids == {span_id_of_attempt(UUID(int=1), series, number) for series in (1, 2) for number in (1, 2)}
    assert all(parse(f"00-{TRACE}-{span_id}-01") for span_id in ids)
