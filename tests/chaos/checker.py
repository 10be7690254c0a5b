"""Judges what a run left behind: pure functions from evidence to violations.

Invariants (reference: docs/reliability.md) and where they are checked:

- Here, for every request: I1 no loss, I3 nothing unexpected, I4 nothing changed, I5 duplicates are no more than
  uncertain attempts, I6 none where the third party can be asked, I7 one request per key, I8 the timeline, I9 polls do
  not lie, I10 no stuck work, I11 the accounting closes, I12 attempts are counted, I16 honest refusals, I19 any order
  (doubled and stale hints are part of the faults, and must leave no trace in I5, I6 and I12).
- By the campaign: I2 everything ends within T of the last fault, I17 no secret leaves.
- Elsewhere, because a run under load cannot tell them from chance: I13 the breaker's probes and I14 no storm of retries
  (unit tests with a clock of their own), I15 isolation (integration), I18 clean stops (tests/chaos/clean_stops.py).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from tests.chaos.evidence import Call, DeliveryRow, Evidence, RequestRow, Shown

_FINISHED = {"delivered", "dead", "cancelled"}
_STATES = {"pending", "sending", "unknown", *_FINISHED}
#: What an attempt that may have shown something is recorded as.
_UNCERTAIN = {"sending", "unknown", "delivered"}
_ORDER = {"accepted": 0, "delivered": 1, "undeliverable": 1, "cancelled": 1}
_HONEST = {0, 202, 429, 503}


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What the run was set up to be."""

    channels_of: Mapping[str, Collection[str]]  # by topic
    with_lookup: Collection[str]
    answer_within: float  # seconds, for calls to an API that was not itself stopped
    stopped: Collection[tuple[float, float]] = ()  # when an API was (Unix times)


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was not kept."""

    invariant: str
    subject: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant} {self.subject}: {self.what}"


@dataclass(kw_only=True)
class Classes:
    """Jepsen's classes, by channel where it matters."""

    accepted: int = 0
    lost: int = 0
    unexpected: int = 0
    recovered: int = 0  # the client was never told 202, and it was delivered all the same
    dead: int = 0
    duplicated: Counter[str] = field(default_factory=Counter)
    ambiguous: Counter[str] = field(default_factory=Counter)  # attempts without a clear answer


class Case:
    """The evidence with its indexes."""

    def __init__(self, evidence: Evidence, rules: Rules) -> None:
        self.evidence = evidence
        self.rules = rules
        self.request: dict[str, RequestRow] = {row.id: row for row in evidence.requests}
        self.delivery: dict[str, DeliveryRow] = {row.id: row for row in evidence.deliveries}
        self.deliveries_of: dict[str, list[DeliveryRow]] = defaultdict(list)
        for row in evidence.deliveries:
            self.deliveries_of[row.request].append(row)
        self.shown_of: dict[str, list[Shown]] = defaultdict(list)
        for message in evidence.shown:
            self.shown_of[message.delivery].append(message)
        self.outcomes: dict[str, list[str]] = defaultdict(list)
        for attempt in evidence.attempts:
            self.outcomes[attempt.delivery].append(attempt.outcome)
        self.accepted: dict[str, Call] = {call.id: call for call in evidence.calls if call.status == 202 and call.id}
        self.asked: dict[str, Call] = {call.marker: call for call in evidence.calls if call.kind != "other"}


def judge(evidence: Evidence, rules: Rules) -> tuple[list[Violation], Classes]:
    """Every violation, and how many requests ended how."""
    case = Case(evidence, rules)
    return [violation for check in CHECKS for violation in check(case)], classify(case)


def no_loss(case: Case) -> Iterator[Violation]:
    for id_, call in case.accepted.items():
        if id_ not in case.request:
            yield Violation("I1", id_, f"accepted for {call.marker} and not in the database")
            continue
        found = sorted(row.channel for row in case.deliveries_of[id_])
        if found != sorted(case.rules.channels_of[call.topic]):
            yield Violation("I1", id_, f"has deliveries to {found}")
    for delivery in case.evidence.deliveries:
        if delivery.state not in _STATES:
            yield Violation("I1", delivery.id, f"is in state {delivery.state!r}")


def nothing_unexpected(case: Case) -> Iterator[Violation]:
    for message in case.evidence.shown:
        delivery = case.delivery.get(message.delivery)
        if delivery is None:
            yield Violation("I3", message.delivery or "?", f"shown at {message.where}, and nobody ordered it")
        elif message.marker != case.request[delivery.request].marker:
            yield Violation("I3", message.delivery, f"shows {message.marker}, another request's text")
    for request in case.evidence.requests:
        if request.marker not in case.asked:
            yield Violation("I3", request.id, f"is in the database, and no client asked for {request.marker}")


def nothing_changed(case: Case) -> Iterator[Violation]:
    for request in case.evidence.requests:
        call = case.asked.get(request.marker or "")
        if call is not None and (request.sha, request.topic) != (call.sha, call.topic):
            yield Violation("I4", request.id, "was stored with another text or topic")
    for message in case.evidence.shown:
        delivery, call = case.delivery.get(message.delivery), case.asked.get(message.marker or "")
        if delivery is None or call is None:
            continue
        if message.sha != call.sha:
            yield Violation("I4", message.delivery, f"the text shown at {message.where} is not the text accepted")
        if message.where != delivery.channel:
            yield Violation("I4", message.delivery, f"belongs to {delivery.channel} and was shown at {message.where}")


def bounded_duplicates(case: Case) -> Iterator[Violation]:
    for delivery, messages in case.shown_of.items():
        uncertain = sum(outcome in _UNCERTAIN for outcome in case.outcomes[delivery])
        if delivery in case.delivery and len(messages) > uncertain:
            yield Violation(
                "I5", delivery, f"shown {len(messages)} times after {uncertain} attempts that may have sent"
            )


def lookup_shows_once(case: Case) -> Iterator[Violation]:
    for delivery in case.evidence.deliveries:
        times = len(case.shown_of[delivery.id])
        if delivery.channel in case.rules.with_lookup and times > 1:
            yield Violation("I6", delivery.id, f"shown {times} times at {delivery.channel}, which can be asked")


def one_request_per_key(case: Case) -> Iterator[Violation]:
    told: dict[str, set[tuple[str | None, str | None]]] = defaultdict(set)
    for call in case.evidence.calls:
        if call.key and call.kind != "other" and call.status == 202:
            told[call.key].add((call.id, call.ref))
        if call.kind == "other" and call.status == 202:
            yield Violation("I7", call.marker, "another text with the same key was accepted")
        if call.id in case.request and call.ref != case.request[call.id].ref:
            yield Violation("I7", call.marker, "was told another ref than the stored one")
    for key, answers in told.items():
        if len(answers) > 1:
            yield Violation("I7", key, f"was answered with {len(answers)} different requests")
    for marker, count in Counter(request.marker for request in case.evidence.requests).items():
        if count > 1:
            yield Violation("I7", str(marker), f"is stored {count} times")


def timeline(case: Case) -> Iterator[Violation]:
    versions: dict[str, list[int]] = defaultdict(list)
    ends: Counter[str] = Counter()
    for event in case.evidence.events:
        versions[event.request].append(event.version)
        ends[event.request] += event.type.endswith(("delivered", "undeliverable", "cancelled"))
    for request, found in versions.items():
        if found != list(range(2, len(found) + 2)):
            yield Violation("I8", request, f"has events {found}")
        if ends[request] > 1:
            yield Violation("I8", request, "ended more than once")


def polls_do_not_lie(case: Case) -> Iterator[Violation]:
    for delivery in case.evidence.deliveries:
        sure = case.outcomes[delivery.id].count("delivered")
        times = len(case.shown_of[delivery.id])
        if times < max(sure, delivery.state == "delivered"):
            yield Violation("I9", delivery.id, f"is recorded as delivered, and shown {times} times")
    polls_of = defaultdict(list)
    for poll in case.evidence.polls:
        if poll.status == 404:
            yield Violation("I9", poll.id, "a poll after the 202 was answered with 404")
        if poll.status == 200:
            polls_of[poll.id].append(poll)
    for id_, polls in polls_of.items():
        polls.sort(key=lambda poll: poll.began)
        for before, after in pairwise(polls):
            went_back = _ORDER.get(after.state or "", 0) < _ORDER.get(before.state or "", 0)
            if went_back and after.began >= before.ended:
                yield Violation("I9", id_, f"was {before.state}, then {after.state}")


def no_stuck_work(case: Case) -> Iterator[Violation]:
    for delivery in case.evidence.deliveries:
        if delivery.state not in _FINISHED:
            yield Violation("I10", delivery.id, f"is still {delivery.state} at the end")
        if delivery.leased:
            yield Violation("I10", delivery.id, "is still under a lease")


def accounting(case: Case) -> Iterator[Violation]:
    evidence = case.evidence
    yield from _leftovers(evidence)
    letters = {(letter.delivery, letter.series) for letter in evidence.letters}
    for delivery in evidence.deliveries:
        if delivery.state == "dead" and (delivery.id, delivery.series) not in letters:
            yield Violation("I11", delivery.id, "is dead without a dead letter")
    for letter in evidence.letters:
        if letter.delivery is None:
            yield Violation("I11", letter.source, f"a dead letter without a delivery: {letter.reason}")
    for request in evidence.requests:
        states = {row.state for row in case.deliveries_of[request.id]}
        if request.status == "delivered" and states != {"delivered"}:
            yield Violation("I11", request.id, f"is delivered, its deliveries are {sorted(states)}")


def _leftovers(evidence: Evidence) -> Iterator[Violation]:
    if evidence.outbox:
        yield Violation("I11", "outbox", f"holds {evidence.outbox} rows at the end")
    for queue, count in evidence.queued.items():
        if count:
            yield Violation("I11", queue, f"holds {count} messages at the end")
    for name, count in evidence.ledger_violations.items():
        yield Violation("I11", "ledger", f"{name}: {count}")


def attempts_are_counted(case: Case) -> Iterator[Violation]:
    numbers: dict[str, list[int]] = defaultdict(list)
    for attempt in case.evidence.attempts:
        numbers[attempt.delivery].append(attempt.number)
    for delivery in case.evidence.deliveries:
        if sorted(numbers[delivery.id]) != list(range(1, delivery.attempt + 1)):
            yield Violation(
                "I12", delivery.id, f"counts {delivery.attempt} attempts, has {sorted(numbers[delivery.id])}"
            )
        if case.outcomes[delivery.id].count("sending"):
            yield Violation("I12", delivery.id, "has an attempt that is still sending")


def honest_refusals(case: Case) -> Iterator[Violation]:
    rules = case.rules
    for call in case.evidence.calls:
        expected = _HONEST - {202} | {422} if call.kind == "other" else _HONEST
        if call.status not in expected:
            yield Violation("I16", call.marker, f"was answered with {call.status}")
        slow = call.ended - call.began > rules.answer_within
        if slow and not any(call.began < until and since < call.ended for since, until in rules.stopped):
            yield Violation("I16", call.marker, f"waited {call.ended - call.began:.1f} s for the answer {call.status}")
    accepted = {call.marker for call in case.accepted.values()}
    for call in case.asked.values():
        if call.key and call.marker not in accepted:
            yield Violation("I16", call.marker, "was repeated until after the last fault and never accepted")
    for poll in case.evidence.polls:
        if poll.status not in {0, 200, 404, 503}:
            yield Violation("I16", poll.id, f"a poll was answered with {poll.status}")


CHECKS: tuple[Callable[[Case], Iterator[Violation]], ...] = (
    no_loss,
    nothing_unexpected,
    nothing_changed,
    bounded_duplicates,
    lookup_shows_once,
    one_request_per_key,
    timeline,
    polls_do_not_lie,
    no_stuck_work,
    accounting,
    attempts_are_counted,
    honest_refusals,
)


def classify(case: Case) -> Classes:
    found = Classes(accepted=len(case.accepted))
    for id_ in case.accepted:
        rows = case.deliveries_of[id_]
        found.lost += id_ not in case.request or any(
            not case.shown_of[row.id] and row.state not in {"dead", "cancelled"} for row in rows
        )
    found.unexpected = sum(v.invariant == "I3" for v in nothing_unexpected(case))
    for request in case.evidence.requests:
        found.recovered += request.id not in case.accepted and request.status == "delivered"
    for delivery in case.evidence.deliveries:
        found.dead += delivery.state == "dead"
        found.duplicated[delivery.channel] += max(0, len(case.shown_of[delivery.id]) - 1)
        outcomes = case.outcomes[delivery.id]
        found.ambiguous[delivery.channel] += sum(outcome in {"sending", "unknown"} for outcome in outcomes)
    return found
