"""The checker of the campaign finds each kind of broken promise in a history that breaks only that one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.checker import Rules, judge
from tests.chaos.evidence import (
    AttemptRow,
    Call,
    DeliveryRow,
    EventRow,
    Evidence,
    Letter,
    Poll,
    RequestRow,
    Shown,
    SinkLog,
    leaks,
)

RULES = Rules(channels_of={"sales": ("team",), "both": ("team", "inbox")}, with_lookup=("team",), answer_within=10.0)


def call(number: int = 1, **changes: Any) -> Call:
    plain = Call(
        kind="first", marker=f"c1-{number}", key=f"key-{number}", topic="sales", sha="sha", began=1.0, ended=2.0,
        status=202, id=f"r{number}", ref=f"A-{number}",
    )  # fmt: skip
    return replace(plain, **changes)


def shown(number: int = 1, **changes: Any) -> Shown:
    return replace(Shown(where="team", delivery=f"d{number}", series=1, marker=f"c1-{number}", sha="sha"), **changes)


def kept(**changes: Any) -> Evidence:
    """One request that was accepted, delivered and shown once."""
    evidence = Evidence(
        calls=[call()],
        polls=[Poll(id="r1", began=3.0, ended=3.1, status=200, state="delivered")],
        shown=[shown()],
        requests=[RequestRow(id="r1", ref="A-1", topic="sales", status="delivered", marker="c1-1", sha="sha")],
        deliveries=[DeliveryRow(id="d1", request="r1", channel="team", state="delivered", series=1, attempt=1)],
        attempts=[AttemptRow(delivery="d1", series=1, number=1, outcome="delivered")],
        events=[EventRow(request="r1", version=2, type="delivered")],
    )
    for name, value in changes.items():
        setattr(evidence, name, value)
    return evidence


def with_delivery(**changes: Any) -> list[DeliveryRow]:
    return [replace(kept().deliveries[0], **changes)]


def with_outcomes(*outcomes: str) -> list[AttemptRow]:
    return [
        AttemptRow(delivery="d1", series=1, number=number, outcome=outcome)
        for number, outcome in enumerate(outcomes, 1)
    ]


def found(evidence: Evidence, rules: Rules = RULES) -> set[str]:
    return {violation.invariant for violation in judge(evidence, rules)[0]}


BROKEN: dict[str, tuple[str, Callable[[], Evidence]]] = {
    "an accepted request is not in the database": ("I1", lambda: kept(calls=[call(), call(2)])),
    "an accepted request lacks a delivery": ("I1", lambda: kept(
        calls=[call(topic="both")], requests=[replace(kept().requests[0], topic="both")]
    )),
    "a third party shows what nobody ordered": ("I3", lambda: kept(shown=[shown(), shown(2)])),
    "a signature was wrong": ("I3", lambda: kept(
        shown=[shown(), Shown(where=None, delivery="", series=0, marker=None, sha=None)]
    )),
    "a delivery shows another request's text": ("I3", lambda: kept(shown=[shown(marker="c1-7")])),
    "the database holds what no client asked for": ("I3", lambda: kept(calls=[], polls=[])),
    "the text was changed on its way": ("I4", lambda: kept(shown=[shown(sha="other")])),
    "the text was stored wrongly": ("I4", lambda: kept(requests=[replace(kept().requests[0], sha="other")])),
    "it was shown in another place": ("I4", lambda: kept(shown=[shown(where="inbox")])),
    "more was shown than attempts explain": ("I5", lambda: kept(
        shown=[shown(), shown()], deliveries=with_delivery(attempt=2),
        attempts=with_outcomes("retry_later", "delivered"),
    )),
    "a channel that can be asked shows it twice": ("I6", lambda: kept(
        shown=[shown(), shown()], deliveries=with_delivery(attempt=2), attempts=with_outcomes("unknown", "delivered")
    )),
    "a key led to two requests": ("I7", lambda: kept(calls=[call(), call(id="r2")])),
    "another text with the same key was accepted": ("I7", lambda: kept(calls=[call(), call(kind="other")])),
    "a request is stored twice": ("I7", lambda: kept(
        requests=[*kept().requests, replace(kept().requests[0], id="r9")]
    )),
    "the timeline has a hole": ("I8", lambda: kept(events=[EventRow(request="r1", version=3, type="delivered")])),
    "it ended twice": ("I8", lambda: kept(
        events=[EventRow(request="r1", version=n, type="request.delivered") for n in (2, 3)]
    )),
    "it is called delivered and was never shown": ("I9", lambda: kept(shown=[])),
    "an attempt is called delivered and was never shown": ("I9", lambda: kept(
        deliveries=with_delivery(attempt=2), attempts=with_outcomes("delivered", "delivered")
    )),
    "a poll after the 202 is answered with 404": ("I9", lambda: kept(
        polls=[Poll(id="r1", began=3, ended=4, status=404, state=None)]
    )),
    "a status goes backwards": ("I9", lambda: kept(
        polls=[
            Poll(id="r1", began=began, ended=began + 0.5, status=200, state=state)
            for began, state in ((3, "delivered"), (4, "accepted"))
        ]
    )),
    "work is left": ("I10", lambda: kept(deliveries=with_delivery(state="unknown"))),
    "a lease is left": ("I10", lambda: kept(deliveries=with_delivery(leased=True))),
    "it is dead without a letter": ("I11", lambda: kept(deliveries=with_delivery(state="dead"))),
    "a letter has no delivery": ("I11", lambda: kept(
        letters=[Letter(delivery=None, series=None, source="broker", reason="undecodable")]
    )),
    "the outbox is not empty": ("I11", lambda: kept(outbox=1)),
    "a queue is not empty": ("I11", lambda: kept(queued={"assistance.team": 1})),
    "the ledger does not close": ("I11", lambda: kept(ledger_violations={"leases": 1})),
    "an attempt is missing": ("I12", lambda: kept(deliveries=with_delivery(attempt=2))),
    "an attempt never ended": ("I12", lambda: kept(attempts=with_outcomes("sending"))),
    "the API answered 500": ("I16", lambda: kept(calls=[call(), call(2, status=500, id=None, key=None)])),
    "an answer came too late": ("I16", lambda: kept(calls=[call(ended=12.5)])),
    "a client with a key was never accepted": ("I16", lambda: kept(calls=[call(), call(2, status=503, id=None)])),
}  # fmt: skip


def test_a_run_that_kept_its_promises_has_no_violations() -> None:
    violations, classes = judge(kept(), RULES)

    assert not violations
    assert (classes.accepted, classes.lost, classes.unexpected, classes.recovered, classes.dead) == (1, 0, 0, 0, 0)


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_promise_is_found(case: str) -> None:
    invariant, evidence = BROKEN[case]

    assert invariant in found(evidence())


def test_a_repeat_after_an_uncertain_attempt_is_no_violation_where_nobody_can_be_asked() -> None:
    evidence = kept(
        shown=[shown(), shown()], deliveries=with_delivery(attempt=2), attempts=with_outcomes("unknown", "delivered")
    )

    violations, classes = judge(evidence, replace(RULES, with_lookup=()))

    assert not violations
    assert classes.duplicated["team"] == classes.ambiguous["team"] == 1


def test_a_request_that_vanished_counts_as_lost() -> None:
    assert judge(kept(calls=[call(), call(2)]), RULES)[1].lost == 1
    assert judge(kept(shown=[]), RULES)[1].lost == 1


def test_a_delivery_whose_client_never_heard_of_it_counts_as_recovered() -> None:
    violations, classes = judge(kept(calls=[call(status=0, id=None, key=None)], polls=[]), RULES)

    assert not violations
    assert classes.recovered == 1


def test_waiting_for_an_api_that_was_stopped_is_no_violation() -> None:
    assert not found(kept(calls=[call(ended=12.5)]), replace(RULES, stopped=((4.0, 9.0),)))


def test_a_line_that_is_not_written_to_its_end_yet_is_read_the_next_time(tmp_path: Path) -> None:
    log = tmp_path / "received.jsonl"
    line = b'{"at": 1, "kind": "forged", "reason": "", "body": ""}\n'
    log.write_bytes(line + line[:9])
    reader = SinkLog(log, {})

    assert len(list(reader.read())) == 1
    with log.open("ab") as more:
        more.write(line[9:])
    assert len(list(reader.read())) == 1


def test_a_secret_in_an_artefact_is_found_and_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "api-1.log").write_text("… token-canary …")

    assert leaks(tmp_path, {"token": "token-canary", "password": "another"}) == ["token in api-1.log"]
