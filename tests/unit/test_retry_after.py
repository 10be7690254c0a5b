"""`Retry-After` in every form that servers write it."""

from __future__ import annotations

from datetime import timedelta
from email.utils import format_datetime

import pytest

from assistance.channels.http import Answer, parse_endpoint, post, retry_after_seconds
from assistance.runtime.clock import Deadline, utc_now
from assistance.testing.http_server import FakeHttpServer, Raw


def wait_of(written: str | None) -> float | None:
    headers = {} if written is None else {"retry-after": written}
    answer = Answer(http_status=429, headers=headers, body=b"", is_whole=True)
    return retry_after_seconds(answer, otherwise=None)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("30", 30.0),
        ("  30\t", 30.0),
        ("+30", 30.0),
        ("030", 30.0),
        ("2.5", 2.5),
        ("0", 1.0),
        ("-1", 1.0),
        ("-0.0", 1.0),
        ("0.001", 1.0),
        ("900", 900.0),
        ("901", 900.0),
        ("86400", 900.0),
        ("9" * 30, 900.0),
        ("9" * 400, 900.0),
        ("-" + "9" * 400, 1.0),
    ],
    ids=lambda value: str(value)[:12].strip(),
)
def test_a_number_of_seconds_is_kept_between_a_second_and_a_quarter_of_an_hour(written: str, seconds: float) -> None:
    assert wait_of(written) == seconds


@pytest.mark.parametrize(
    "written",
    [None, "", " ", "soon", "1e3", "0x10", "1,5", "5, 30", "5 s", "--5", "NaN", "inf", "٣٠", "Wed, 99 Foo 2026", "[]"],
)
def test_what_is_neither_a_number_nor_a_date_is_no_waiting_time(written: str | None) -> None:
    assert wait_of(written) is None
    answer = Answer(http_status=429, headers={"retry-after": written or ""}, body=b"", is_whole=True)
    assert retry_after_seconds(answer, otherwise=30.0) == 30.0


@pytest.mark.parametrize(("ahead", "least", "most"), [(60, 55, 60), (-3600, 1, 1), (86400, 900, 900)])
def test_a_date_is_a_waiting_time_from_now(ahead: float, least: float, most: float) -> None:
    found = wait_of(format_datetime(utc_now() + timedelta(seconds=ahead), usegmt=True))
    assert found is not None
    assert least <= found <= most


@pytest.mark.parametrize("date", ["Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_dates_at_the_ends_of_time_are_clamped(date: str) -> None:
    assert wait_of(date) in (1.0, 900.0)


def test_of_several_headers_the_last_counts() -> None:
    with FakeHttpServer() as server:
        wire = b"HTTP/1.1 429 Slow\r\nRetry-After: 5\r\nretry-after:   7 \r\nContent-Length: 0\r\n\r\n"
        server.script.upcoming.append(Raw(wire=wire))
        answer = post(parse_endpoint(server.url), b"", {}, Deadline.after(5))
    assert retry_after_seconds(answer, otherwise=None) == 7.0
