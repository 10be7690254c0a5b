"""Logs: one event a line, no secrets."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import logging, structlog
from assistance.runtime.logs import configure_logs
configure_logs("relay", level={level!r}, fmt={fmt!r})
log = structlog.get_logger()
with structlog.contextvars.bound_contextvars(channel="people"):
    log.info("consumer.settled", url="amqp://user:s3cret@host/vhost", long="x" * 50_000, count=3)
log.debug("a.detail")
logging.getLogger("library").warning("at postgresql://u:s3cret@h/d")
logging.getLogger("library").info("chatter")
logging.getLogger("pika").error("pages of explanations")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("pass.failed")
"""


def lines(level: str = "info", fmt: str = "json") -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(level=level, fmt=fmt)], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_every_event_is_one_json_line_with_time_level_service_and_context() -> None:
    events = [json.loads(line) for line in lines()]
    assert [event["event"] for event in events] == ["consumer.settled", "at postgresql://***@h/d", "pass.failed"]
    assert [event["level"] for event in events] == ["info", "warning", "error"]
    assert all(event["service"] == "relay" and event["timestamp"].endswith("Z") for event in events)
    assert (events[0]["channel"], events[0]["count"]) == ("people", 3)
    assert "ZeroDivisionError" in events[2]["exception"]


@pytest.mark.parametrize("fmt", ["json", "console"])
def test_no_credentials_of_a_url_are_written(fmt: str) -> None:
    text = "\n".join(lines(fmt=fmt))
    assert "s3cret" not in text
    assert "***@host/vhost" in text


def test_a_value_that_would_fill_the_disk_is_cut() -> None:
    assert len(json.loads(lines()[0])["long"]) < 10_000


QUOTING = """
import psycopg, structlog
from sqlalchemy.exc import DataError
from assistance.runtime.logs import configure_logs
configure_logs("api", fmt={fmt!r})

def fail(kind):
    try:
        int("canary")
    except ValueError as error:
        if kind is not None:
            raise kind from error
        raise

row = psycopg.errors.CheckViolation("new row violates a check\\nDETAIL:  Failing row contains (canary\\ncanary).")
for kind in (None, KeyError("canary"), UnicodeEncodeError("ascii", "canary", 0, 1, "no"), row,
             DataError("INSERT INTO requests", {{"description": "canary"}}, row), RuntimeError("a plain reason")):
    try:
        fail(kind)
    except Exception:
        structlog.get_logger().exception("api.failed")
"""


@pytest.mark.parametrize("fmt", ["json", "console"])
def test_an_exception_is_told_with_its_place_and_kind_and_never_with_what_it_quotes(fmt: str) -> None:
    program = QUOTING.format(fmt=fmt)
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stderr
    assert said.count("api.failed") == 6
    assert "canary" not in said
    for told in ("ValueError", "KeyError", "psycopg.errors.CheckViolation: 23514", "INSERT INTO requests"):
        assert told in said
    assert "RuntimeError: a plain reason" in said
    assert 'File \\"<string>\\", line' in said or 'File "<string>", line' in said


def test_the_level_decides_what_is_written() -> None:
    assert any("a.detail" in line for line in lines(level="debug"))
    assert not any("consumer.settled" in line for line in lines(level="warning"))


STUCK = """
import sys, structlog
from assistance.runtime.logs import configure_logs
from assistance.runtime.metrics import log_lines_dropped
configure_logs("api")
log = structlog.get_logger()
for number in range(20_000):
    log.info("api.answered", number=number)
print(log_lines_dropped._value.get())
"""


def started() -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_reader_who_stopped_reading_stops_nobody_and_what_he_missed_is_counted() -> None:
    with started() as process:
        assert process.stdout is not None
        assert process.stderr is not None
        missed = int(float(process.stdout.read()))  # it ended, although nobody has read a line of its log
        read = process.stderr.read().splitlines()
    assert process.returncode == 0
    assert missed > 10_000
    assert len(read) + missed == 20_000
    assert json.loads(read[0])["number"] == 0


def test_a_reader_who_is_gone_stops_nobody() -> None:
    with started() as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stderr.close()
        assert float(process.stdout.read()) > 10_000
    assert process.returncode == 0
