"""Poison messages, workers that a message kills, and servers that lose what they held: all with real processes."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import textwrap
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest
from sqlalchemy import text

from assistance.broker.topology import DEAD_LETTER_QUEUE, EXCHANGE, queue_of
from assistance.conciliation.ledger import read_ledger
from assistance.domain.hint import HINT_TYPE, Hint, encode
from assistance.storage.database import Database
from tests.e2e.installation import Installation, installation, under_load, wait_until

pytestmark = pytest.mark.timeout(240)


@contextlib.contextmanager
def channel_to(broker_url: str) -> Iterator[Any]:
    connection = pika.BlockingConnection(pika.URLParameters(broker_url))
    try:
        channel = connection.channel()
        channel.confirm_delivery()  # what is published and refused is an error of the test
        yield channel
    finally:
        with contextlib.suppress(pika.exceptions.AMQPError):
            connection.close()


def messages_in(broker_url: str, queue: str) -> int:
    with channel_to(broker_url) as channel:
        return int(channel.queue_declare(queue, passive=True).method.message_count)


def rows(database_url: str, statement: str, **values: Any) -> list[Any]:
    database = Database(database_url, pool_size=1)
    try:
        with database.transaction() as connection:
            result = connection.execute(text(statement), values)
            return list(result) if result.returns_rows else []
    finally:
        database.close()


def violations(database_url: str) -> dict[str, int]:
    database = Database(database_url, pool_size=1)
    try:
        with database.transaction() as connection:
            return read_ledger(connection).violations
    finally:
        database.close()


def hint(**changes: Any) -> bytes:
    stranger = Hint(delivery_id=uuid.uuid4(), request_id=uuid.uuid4(), channel="sales-team", series=1, attempt=1)
    return json.dumps(json.loads(encode(stranger)) | changes).encode()


POISON = {
    "no JSON": (b"\xff{not json", HINT_TYPE, "undecodable"),
    "nothing at all": (b"", HINT_TYPE, "undecodable"),
    "another version of the body": (hint(v=2), HINT_TYPE, "undecodable"),
    "another version of the message": (hint(), "assistance.delivery.requested.v2", "undecodable"),
    "ten megabytes": (b'{"v":1,"padding":"' + b"x" * 10_000_000 + b'"}', HINT_TYPE, "undecodable"),
    "deeper than Python reads": (b"[" * 100_000, HINT_TYPE, "undecodable"),
    "a channel that nobody configured": (hint(channel="nowhere"), HINT_TYPE, "unknown_delivery"),
    "a delivery that nobody knows": (hint(), HINT_TYPE, "unknown_delivery"),
}


def test_poison_of_every_kind_is_written_down_and_holds_up_nobody(
    tmp_path: Path, database_url: str, broker_url: str
) -> None:
    with installation(tmp_path, database_url, broker_url) as running:
        consumer = running.processes["consumer"].pid
        first = running.post_until_accepted("sales", "before")
        wait_until(lambda: running.status_of(first) == "delivered", seconds=30, what="the queues are there")
        with channel_to(broker_url) as channel:
            for name, (body, kind, _) in POISON.items():
                properties = pika.BasicProperties(message_id=name, type=kind, delivery_mode=2)
                channel.basic_publish(EXCHANGE, "sales-team", body, properties)
        last = running.post_until_accepted("sales", "after")
        wait_until(lambda: running.status_of(last) == "delivered", seconds=30, what="the next one is delivered")

        def letters() -> dict[str, str]:
            found = rows(database_url, "SELECT message_id, reason FROM dead_letters")
            return {row.message_id: row.reason for row in found}

        expected = {name: reason for name, (_, _, reason) in POISON.items()}
        wait_until(lambda: letters() == expected, seconds=30, what="every one is written down with its reason")
        kept = rows(database_url, "SELECT length(body) AS n FROM dead_letters WHERE message_id = 'ten megabytes'")
        assert kept[0].n == len(POISON["ten megabytes"][0])
        wait_until(lambda: messages_in(broker_url, DEAD_LETTER_QUEUE) == 0, seconds=20, what="the DLQ is drained")
        assert running.processes["consumer"].poll() is None
        assert running.processes["consumer"].pid == consumer
        assert running.slack_messages() == {"before": 1, "after": 1}


#: A channel type of another package, as an entry point: a message that says "poison" ends the process that sends it, or
#: that looks it up. What was sent is kept in files, so that a look-up knows.
_ABORTING = """
    import os
    from pathlib import Path
    from assistance.channels.contract import Capabilities, ChannelType, Health, Rendered
    from assistance.channels.options import ChannelOptions
    from assistance.domain.outcome import Delivered, Found, NotFound, Unknown

    class Options(ChannelOptions):
        at: str

    class Channel:
        destination = {"to": "nobody"}

        def __init__(self, options):
            self.at = options.at

        def render(self, view):
            return Rendered(text=view.request.description, content={})

        def send(self, rendered, destination, key, deadline):
            if "poison" in rendered.text and self.at == "send":
                os.abort()
            sent = Path(__file__).with_name(str(key.delivery_id))
            sent.write_text(rendered.text)
            if "poison" in rendered.text:
                return Unknown(code="unclear", detail="The answer was unclear.")
            return Delivered(receipt={"id": "1"})

        def lookup(self, destination, key, since, deadline):
            sent = Path(__file__).with_name(str(key.delivery_id))
            if not sent.exists():
                return NotFound()
            if "poison" in sent.read_text():
                os.abort()
            return Found(receipt={"id": "1"})

        def check(self, deadline):
            return Health()

    CHANNEL_TYPE = ChannelType(
        name="aborting", capabilities=Capabilities(lookup=True), options=Options, build=Channel
    )
"""


def add_aborting_channel(running: Installation, at: str) -> None:
    """Install the channel type beside the project, and a channel and a topic of it."""
    packages = running.folder / "packages"
    (packages / "aborting-1.dist-info").mkdir(parents=True)
    (packages / "aborting.py").write_text(textwrap.dedent(_ABORTING))
    (packages / "aborting-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: aborting\nVersion: 1\n")
    (packages / "aborting-1.dist-info" / "entry_points.txt").write_text(
        "[assistance.channels]\naborting = aborting:CHANNEL_TYPE\n"
    )
    path = [str(packages), *filter(None, [running.environment.get("PYTHONPATH")])]
    running.environment |= {"PYTHONPATH": ":".join(path), "ASSISTANCE_LEASE_SECONDS": "1.5"}
    configuration = running.folder / "assistance.toml"
    configuration.write_text(
        configuration.read_text().replace("[topics]", '[topics]\npoison = "risky"')
        + f'\n[channels.risky]\ntype = "aborting"\nat = "{at}"\nretry = "short"\nsettle = "100ms"\n'
        'probe_after = "300ms"\n[retry.short]\ndelays = ["100ms"]\ngive_up_after = "1h"\n'
    )


_ITS_TIME_IS_UP = "UPDATE deliveries SET first_attempt_at = now() - interval '2 hours' WHERE request_id = :request"


@pytest.mark.parametrize("at", ["send", "lookup"])
def test_a_message_that_kills_its_worker_each_time_ends_dead_and_takes_no_neighbour_along(
    tmp_path: Path, database_url: str, broker_url: str, at: str
) -> None:
    running = Installation(tmp_path, database_url, broker_url)
    add_aborting_channel(running, at)
    deaths = 0
    try:
        running.start("sandbox", "api", "relay", "conciliation")
        poison = running.post_until_accepted("poison", "poison")
        neighbours = running.post_many("poison", 20) + running.post_many("sales", 20)
        running.start("consumer")

        def has_ended() -> bool:
            nonlocal deaths
            code = running.processes["consumer"].poll()
            if code is not None:
                assert code == -signal.SIGABRT
                deaths += 1
                if deaths == 3:
                    rows(database_url, _ITS_TIME_IS_UP, request=poison)
                running.start("consumer")  # as whatever watches over processes does
            return running.status_of(poison) == "undeliverable"

        wait_until(has_ended, seconds=180, what="the poison is a dead letter")
        wait_until(
            lambda: all(running.status_of(neighbour) == "delivered" for neighbour in neighbours),
            seconds=60,
            what="every neighbour is delivered",
        )
        assert running.processes["consumer"].poll() is None
        assert 3 <= deaths <= 5
        (letter,) = rows(database_url, "SELECT reason FROM dead_letters")
        assert letter.reason == {"send": "gave_up", "lookup": "outcome_unknown"}[at]
        wait_until(lambda: not violations(database_url), seconds=10, what="the ledger closes")
    finally:
        running.stop()


def test_a_caller_who_hangs_up_in_the_middle_of_the_answer_gets_the_same_one_for_the_same_key(
    tmp_path: Path, database_url: str, broker_url: str
) -> None:
    running = Installation(tmp_path, database_url, broker_url)
    try:
        running.start("api")
        body = b'{"topic":"sales","description":"half an answer"}'
        head = "POST /assistance HTTP/1.1\r\nHost: [::1]\r\nContent-Type: application/json\r\nIdempotency-Key: half\r\n"
        with socket.create_connection(("127.0.0.1", running.http_port), timeout=20) as caller:
            caller.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            assert caller.recv(12) == b"HTTP/1.1 202"
        status, answer = running.post("sales", "half an answer", key="half")
        assert status == 202
        assert [str(row.id) for row in rows(database_url, "SELECT id FROM requests")] == [answer["id"]]
        assert len(rows(database_url, "SELECT 1 FROM outbox")) == 1
    finally:
        running.stop()


def test_a_message_whose_consumers_die_until_the_broker_gives_it_up_is_offered_again(
    tmp_path: Path, database_url: str, broker_url: str
) -> None:
    with installation(tmp_path, database_url, broker_url) as running:
        first = running.post_until_accepted("sales", "first")
        wait_until(lambda: running.status_of(first) == "delivered", seconds=30, what="the queues are there")
        running.kill("consumer")
        running.environment["ASSISTANCE_CHECK_AFTER_SECONDS"] = "600"  # so that nobody else brings it back
        for service in ("api", "conciliation"):
            running.kill(service)
            running.start(service)
        request_id = running.post_until_accepted("sales", "killer")
        queue = queue_of("sales-team")
        wait_until(lambda: messages_in(broker_url, queue) == 1, seconds=20, what="its hint waits")
        taken = 0
        connection = pika.BlockingConnection(pika.URLParameters(broker_url))
        while taken < 60 and not rows(database_url, "SELECT 1 FROM outbox"):
            channel = connection.channel()
            taken += channel.basic_get(queue)[0] is not None
            channel.close()  # with the message in hand, which is what a death looks like to the broker
        connection.close()
        assert taken > 50  # the limit of the queue
        wait_until(lambda: rows(database_url, "SELECT 1 FROM outbox"), seconds=30, what="it is offered again")
        (offered,) = rows(database_url, "SELECT extract(epoch FROM available_at - now()) AS pause FROM outbox")
        assert 20 < offered.pause <= 30
        rows(database_url, "UPDATE outbox SET available_at = now()")
        running.start("consumer")
        wait_until(lambda: running.status_of(request_id) == "delivered", seconds=30, what="it is delivered")
        assert running.slack_messages() == {"first": 1, "killer": 1}
        assert rows(database_url, "SELECT 1 FROM dead_letters") == []


def test_a_broker_that_loses_a_queue_then_its_exchange_then_everything_costs_no_request(
    tmp_path: Path, database_url: str, own_rabbit: Any
) -> None:
    rabbit = own_rabbit()
    with installation(tmp_path, database_url, rabbit.url) as running:
        with under_load(running, "both", 120, per_second=12) as ids:
            wait_until(lambda: len(running.slack_messages()) > 10, seconds=30, what="it is running")
            with channel_to(rabbit.url) as channel:
                channel.queue_delete(queue_of("sales-team"))
            time.sleep(2)
            with channel_to(rabbit.url) as channel:
                channel.exchange_delete(EXCHANGE)
            time.sleep(2)
            rabbit.stop()
            shutil.rmtree(rabbit._folder / "db")
            rabbit.start()
        assert len(set(ids)) == 120
        wait_until(lambda: len(running.slack_messages()) == 120, seconds=90, what="everything was sent")
        wait_until(lambda: len(running.mails()) == 120, seconds=90, what="everything was mailed")
        wait_until(lambda: " 120 delivered" in running.ledger(), seconds=30, what="everything is settled")
        assert set(running.slack_messages().values()) == {1}
        assert set(running.mails().values()) == {1}
