"""The whole flow as separate processes on real PostgreSQL and RabbitMQ, under load, kills and outages."""

from __future__ import annotations

import http.server
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from assistance.broker.contract import Message
from assistance.broker.rabbitmq.publisher import RabbitPublisher
from assistance.domain.hint import HINT_TYPE, Hint, encode
from assistance.embedded.ports import free_port
from assistance.runtime.clock import utc_now
from assistance.storage.migrate import migrate
from tests.e2e.installation import Installation, installation, under_load, wait_until

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def running(tmp_path: Path, database_url: str, broker_url: str) -> Iterator[Installation]:
    with installation(tmp_path, database_url, broker_url) as started:
        yield started


def test_a_thousand_requests_are_sent_once_each(running: Installation) -> None:
    running.post_many("sales", 500)
    running.post_many("pricing", 500)

    expected = {f"request {number}": 1 for number in range(500)}
    wait_until(lambda: len(running.slack_messages()) == 500 == len(running.mails()), seconds=60, what="all arrived")
    assert running.slack_messages() == expected
    assert running.mails() == expected
    wait_until(lambda: running.ledger().startswith("1000 requests = 1000 delivered"), seconds=20, what="all")
    assert running.cli("ledger").returncode == 0


@pytest.mark.alone
def test_an_accepted_request_is_at_slack_within_a_moment(running: Installation) -> None:
    running.post_many("sales", 100, per_second=20)
    wait_until(lambda: len(running.slack_messages()) == 100, seconds=20, what="all arrived")

    stored = json.loads("[" + ",".join(running.cli("list", "--json", "--limit", "200").stdout.splitlines()) + "]")
    accepted = {row["ref"]: datetime.fromisoformat(row["created_at"]).timestamp() for row in stored}
    arrived = {
        message["text"].split(" · ")[1].partition(":")[0]: datetime.fromisoformat(message["at"]).timestamp()
        for message in running._sandbox("/messages")["slack"]["C024BE91L"]
    }
    waits = [arrived[ref] - accepted[ref] for ref in arrived]
    print(f"accepted to sent at 20/s: median {median(waits) * 1000:.1f} ms, worst {max(waits) * 1000:.1f} ms")
    assert len(waits) == 100
    assert median(waits) < 0.25  # some 20 ms on a quiet machine


def test_a_broker_outage_costs_no_answer_and_no_request(tmp_path: Path, database_url: str, own_rabbit: Any) -> None:
    rabbit = own_rabbit()
    with installation(tmp_path, database_url, rabbit.url) as running:
        with under_load(running, "sales", 100, per_second=20) as ids:
            rabbit.stop()
            status, body = running.post("sales", "during the outage")
            assert status == 202
            status, health = running.get("/health")
            assert (status, health["status"]) == (200, "degraded")
            time.sleep(4)
            rabbit.start()
        assert len(set(ids)) == 100
        wait_until(lambda: len(running.slack_messages()) == 101, seconds=60, what="everything was sent")
        assert set(running.slack_messages().values()) == {1}
        assert running.status_of(body["id"]) == "delivered"


def test_a_database_outage_is_refused_quickly_and_ends_by_itself(
    tmp_path: Path, own_postgres: Any, broker_url: str
) -> None:
    postgres = own_postgres()
    with installation(tmp_path, postgres.url, broker_url) as running:
        first = running.post_until_accepted("sales", "before")
        wait_until(lambda: running.status_of(first) == "delivered", seconds=20, what="the first is delivered")
        postgres.stop()
        started = time.monotonic()
        status, problem = running.post("sales", "while it is away")
        assert status == 503
        assert problem["retryable"] is True
        assert time.monotonic() - started < 5
        assert running.get("/health")[0] == 503
        assert running.get("/livez")[0] == 200
        postgres.start()
        second = running.post_until_accepted("sales", "after")
        wait_until(lambda: running.status_of(second) == "delivered", seconds=30, what="the second is delivered")


@pytest.mark.parametrize("service", Installation.SERVICES)
def test_killing_a_process_loses_nothing_and_doubles_nothing_at_slack(running: Installation, service: str) -> None:
    with under_load(running, "sales", 500, per_second=125) as ids:
        for _ in range(3):
            time.sleep(0.8)
            running.kill(service)
            running.start(service)
    assert len(set(ids)) == 500

    wait_until(lambda: len(running.slack_messages()) == 500, seconds=90, what="everything was sent")
    wait_until(lambda: " 500 delivered" in running.ledger(), seconds=60, what="everything is settled")
    assert set(running.slack_messages().values()) == {1}


def test_a_stopping_process_finishes_what_it_has_in_hand(running: Installation) -> None:
    running.control({"slack": {"fail_next": 0}})
    with under_load(running, "both", 200, per_second=80):
        for service in ("relay", "consumer", "conciliation", "api"):
            time.sleep(0.4)
            assert running.terminate(service) == 0, service
            running.start(service)
    wait_until(lambda: " 200 delivered" in running.ledger(), seconds=60, what="everything is settled")
    assert set(running.slack_messages().values()) == {1}
    assert set(running.mails().values()) == {1}  # e-mail cannot be looked up: nothing may have been ambiguous
    outcomes = {line["answer"] for line in running.log_lines("consumer") if line["event"] == "consumer.settled"}
    assert outcomes == {"delivered"}


class _Hook(http.server.BaseHTTPRequestHandler):
    status = 500
    calls: list[float]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).calls.append(time.monotonic())
        self.send_response(type(self).status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


def test_a_failing_channel_follows_its_schedule_dies_with_its_reason_and_can_be_replayed(
    running: Installation,
) -> None:
    _Hook.calls, _Hook.status = [], 500
    server = http.server.ThreadingHTTPServer(("127.0.0.1", running.hook_port), _Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        request_id = running.post_until_accepted("hook", "into the void")
        wait_until(lambda: running.status_of(request_id) == "undeliverable", seconds=20, what="it gave up")
        pauses = [b - a for a, b in zip(_Hook.calls, _Hook.calls[1:], strict=False)]
        assert len(pauses) == 3  # the fourth delay lies beyond the budget
        assert all(pause >= least for pause, least in zip(pauses, (0.1, 0.2, 0.4), strict=True))

        def letters() -> list[Any]:
            listed = running.cli("dead-letters", "list", "--json").stdout
            return [json.loads(line) for line in listed.splitlines()]

        wait_until(lambda: letters()[0]["headers"], seconds=20, what="the message went through the DLQ")
        (letter,) = letters()
        assert (letter["reason"], letter["channel"]) == ("gave_up", "hook")
        assert "500" in letter["error"]
        assert letter["headers"]["x-first-death-reason"] == "rejected"

        assert running.cli("dead-letters", "replay", "--channel", "hook", "--dry-run").stdout.startswith("1 ")
        _Hook.status = 200
        assert running.cli("dead-letters", "replay", str(letter["id"])).returncode == 0
        wait_until(lambda: running.status_of(request_id) == "delivered", seconds=20, what="the replay arrived")
        assert letters() == []
        assert running.cli("ledger").returncode == 0
    finally:
        server.shutdown()
        server.server_close()


def _delivered_hint(running: Installation) -> tuple[str, Hint]:
    from uuid import UUID

    request_id = running.post_until_accepted("sales", "only once")
    wait_until(lambda: running.status_of(request_id) == "delivered", seconds=20, what="it is delivered")
    message = running._sandbox("/messages")["slack"]["C024BE91L"][0]
    delivery_id = UUID(message["metadata"]["event_payload"]["delivery_id"])
    hint = Hint(delivery_id=delivery_id, request_id=UUID(request_id), channel="sales-team", series=1, attempt=1)
    return request_id, hint


def test_the_same_message_published_ten_times_sends_once(running: Installation, broker_url: str) -> None:
    request_id, hint = _delivered_hint(running)
    publisher = RabbitPublisher(broker_url, ["sales-team", "pricing-inbox", "hook"])
    try:
        wait_until(lambda: publisher.state == "ready", seconds=10, what="the publisher is ready")
        message = Message(
            routing_key="sales-team",
            message_id=str(hint.delivery_id),
            correlation_id=request_id,
            type=HINT_TYPE,
            body=encode(hint),
            timestamp=utc_now(),
        )
        assert set(publisher.publish([message] * 10, 5)) == {"confirmed"}
        poison = Message(
            routing_key="sales-team",
            message_id="poison",
            correlation_id="",
            type="?",
            body=b"\xff{",
            timestamp=utc_now(),
        )
        publisher.publish([poison], 5)
    finally:
        publisher.close()
    last = running.post_until_accepted("sales", "afterwards")
    wait_until(lambda: running.status_of(last) == "delivered", seconds=20, what="the consumer goes on")
    assert running.slack_messages() == {"only once": 1, "afterwards": 1}

    def strays() -> str:
        return running.cli("dead-letters", "list", "--reason", "undecodable", "--json").stdout

    wait_until(strays, seconds=20, what="the poison message is written down")
    assert json.loads(strays())["message_id"] == "poison"


def test_conciliation_brings_back_what_a_purge_removed(tmp_path: Path, database_url: str, own_rabbit: Any) -> None:
    rabbit = own_rabbit()
    with installation(tmp_path, database_url, rabbit.url) as running:
        running.post_until_accepted("sales", "first")
        wait_until(lambda: len(running.slack_messages()) == 1, seconds=20, what="the first arrived")
        running.kill("consumer")
        running.kill("conciliation")
        running.post_many("sales", 50)

        def queued() -> int:
            listed = rabbit.rabbitmqctl("-q", "list_queues", "name", "messages")
            return int(dict(line.split() for line in listed.splitlines() if line)["assistance.sales-team"])

        wait_until(lambda: queued() >= 50, seconds=20, what="50 hints wait in the queue")
        rabbit.rabbitmqctl("purge_queue", "assistance.sales-team")
        running.start("consumer", "conciliation")
        wait_until(lambda: len(running.slack_messages()) == 51, seconds=60, what="every delivery came back")
        assert set(running.slack_messages().values()) == {1}


def test_workers_wait_for_servers_that_are_not_there_yet_and_say_so(
    tmp_path: Path, own_postgres: Any, broker_url: str
) -> None:
    postgres = own_postgres()
    with installation(tmp_path, postgres.url, broker_url) as running:
        running.stop()
        postgres.stop()
        for service in ("sandbox", "relay", "consumer", "conciliation"):
            running.start(service)

        def says_so(service: str) -> bool:
            return any(line.get("waiting_for") == "database" for line in running.log_lines(service))

        for service in ("relay", "consumer", "conciliation"):
            wait_until(lambda service=service: says_so(service), seconds=20, what=f"{service} says so")  # type: ignore[misc]
        postgres.start()
        running.start("api")
        request_id = running.post_until_accepted("both", "patience")
        wait_until(lambda: running.status_of(request_id) == "delivered", seconds=30, what="it is delivered")


@pytest.mark.parametrize("service", ["relay", "consumer", "conciliation"])
def test_a_worker_that_waits_for_the_database_stops_quietly(tmp_path: Path, broker_url: str, service: str) -> None:
    alone = Installation(tmp_path, f"postgresql://nobody@127.0.0.1:{free_port()}/none", broker_url)
    try:
        alone.start(service)
        log = tmp_path / f"{service}.log"
        wait_until(lambda: "waiting_for" in log.read_text(), seconds=20, what="it says that it waits")
        assert alone.terminate(service) == 0
        assert "Traceback" not in log.read_text()
    finally:
        alone.stop()


def test_no_secret_and_no_customer_text_reaches_a_log(running: Installation) -> None:
    request_id = running.post_until_accepted("both", "canary-description")
    wait_until(lambda: running.status_of(request_id) == "delivered", seconds=20, what="it is delivered")
    password = running.environment["ASSISTANCE_DATABASE_URL"].split("@")[0].rpartition(":")[2]
    logs = "".join((running.folder / f"{service}.log").read_text() for service in Installation.SERVICES)
    assert "consumer.settled" in logs
    for canary in ("canary-description", "xoxb-canary", "c2VjcmV0", password):
        assert canary not in logs


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("ASSISTANCE_CONFG", "x", "did you mean ASSISTANCE_CONFIG"),
        ("ASSISTANCE_LEASE_SECONDS", "soon", "ASSISTANCE_LEASE_SECONDS is wrong"),
        ("ASSISTANCE_DATABASE_URL", "mysql://x", "starts with postgresql://"),
        ("ASSISTANCE_BROKER_URL", "http://x", "ASSISTANCE_BROKER_URL"),
        ("ASSISTANCE_CONFIG", "nowhere.toml", "nowhere.toml does not exist"),
    ],
)
@pytest.mark.parametrize("command", ["api", "consumer"])
def test_a_wrong_setting_ends_in_one_sentence_and_exit_code_2(
    tmp_path: Path, database_url: str, broker_url: str, command: str, variable: str, value: str, sentence: str
) -> None:
    wrong = Installation(tmp_path, database_url, broker_url)
    wrong.environment[variable] = value
    done = wrong.cli(command)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_metrics_are_right_over_several_api_workers(tmp_path: Path, database_url: str, broker_url: str) -> None:
    several = Installation(tmp_path, database_url, broker_url)
    several.environment["ASSISTANCE_HTTP_WORKERS"] = "3"
    migrate(database_url)
    try:
        several.start("api")
        several.post_many("sales", 30, threads=6)
        with urllib.request.urlopen(f"http://127.0.0.1:{several.http_port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        assert 'http_requests_total{status="202"} 30.0' in lines
        writes = next(float(line.split()[1]) for line in lines if line.startswith("db_write_duration_seconds_count"))
        assert 30 / 6 <= writes <= 30  # those who come at the same moment share one
        assert "assistance_outbox_pending 30.0" in lines
        assert 'queue_depth{channel="sales-team"} 30.0' in lines
    finally:
        several.stop()


@pytest.mark.parametrize("service", ["relay", "consumer", "conciliation"])
def test_every_worker_serves_metrics_and_says_that_it_is_alive(
    tmp_path: Path, database_url: str, broker_url: str, service: str
) -> None:
    port = free_port()
    migrate(database_url)
    alone = Installation(tmp_path, database_url, broker_url)
    alone.environment["ASSISTANCE_METRICS_PORT"] = str(port)
    try:
        alone.start(service)

        def page(path: str) -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
                return str(answer.read().decode())

        wait_until(lambda: "ok" in page("/livez"), seconds=20, what="it is alive")
        assert "assistance_outbox_pending 0.0" in page("/metrics")
        assert alone.terminate(service) == 0
    finally:
        alone.stop()
