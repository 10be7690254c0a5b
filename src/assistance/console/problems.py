"""What is wrong now, the worst first: one line for each thing that somebody may have to do something about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from assistance.broker.contract import ConnectionState
from assistance.configuration import Configuration
from assistance.console.health import NEEDED_ROLES, counted, left_in_outbox, roles_missing, stragglers
from assistance.deliveries.channel_states import ChannelState
from assistance.status.recent_letters import RecentCause
from assistance.status.signs import Signs
from assistance.status.situation import Backlog

_READY = str(ConnectionState.READY)
_CHANNELS, _DEAD, _PIPELINE, _REQUESTS = "/console/channels", "/console/dead", "/console/pipeline", "/console/requests"


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """`word` is the state that its badge shows, `what` a sentence, `why` what is known of the cause.

    `url` leads to where something can be done about it, `act` says what.
    """

    word: str
    what: str
    why: str | None
    since: datetime | None
    url: str
    act: str


def problems_of(
    signs: Signs,
    states: Mapping[str, ChannelState],
    backlogs: Mapping[str, Backlog],
    causes: Sequence[RecentCause],
    configuration: Configuration,
) -> list[Problem]:
    """Every open problem, grouped: no worker, nothing published, channels that are out, letters, what is left over."""
    return [
        *_workers(signs),
        *_broker(signs),
        *_outbox(signs, configuration),
        *_channels(states, backlogs),
        *_stuck(signs, configuration),
        *_letters(causes),
        *_held(backlogs),
        *_orphans(backlogs, configuration),
    ]


def _workers(signs: Signs) -> Iterator[Problem]:
    missing = roles_missing(signs)
    if len(missing) == len(NEEDED_ROLES):
        last = max((role.seen_at for role in signs.roles.values()), default=None)
        what = "No worker runs: what is accepted waits."
        yield Problem(word="gone", what=what, why=None, since=last, url=_PIPELINE, act="See the workers")
        return
    does = {"relay": "nothing is published", "consumer": "nothing is sent", "conciliation": "no straggler is found"}
    for role in missing:
        since = signs.roles[role].seen_at if role in signs.roles else None
        what = f"No {role} runs: {does[role]}."
        yield Problem(word="gone", what=what, why=None, since=since, url=_PIPELINE, act="See the workers")


def _broker(signs: Signs) -> Iterator[Problem]:
    for role in signs.roles.values():
        broker = role.state.get("broker", _READY)
        if role.alive and broker != _READY:
            what = f"The connection of the {role.role} to the broker is {broker}."
            yield Problem(word="late", what=what, why=None, since=None, url=_PIPELINE, act="See the pipeline")


def _outbox(signs: Signs, configuration: Configuration) -> Iterator[Problem]:
    number, since = left_in_outbox(signs, configuration.channels)
    if number:
        what = f"{counted(number, 'due hint')} not published."
        yield Problem(word="late", what=what, why=None, since=since, url=_PIPELINE, act="See the outbox")
    for waiting in signs.outbox:
        if waiting.refused:
            what = f"{counted(waiting.refused, 'hint')} of {waiting.channel} came back from the broker."
            yield Problem(
                word="late", what=what, why=waiting.error, since=waiting.oldest, url=_PIPELINE, act="See the outbox"
            )


def _channels(states: Mapping[str, ChannelState], backlogs: Mapping[str, Backlog]) -> Iterator[Problem]:
    out = [(name, state) for name, state in states.items() if state.is_out]
    for name, state in sorted(out, key=lambda pair: str(pair[1].out_since)):
        waits = f" {_waiting(backlogs[name])}" if name in backlogs else ""
        url = f"{_CHANNELS}/{name}"
        if state.paused_at is not None:
            what, why = f"{name} is paused by {state.paused_by}.{waits}", state.pause_reason
            yield Problem(word="paused", what=what, why=why, since=state.paused_at, url=url, act="Look, resume")
        if state.breaker.probe_at is not None:
            what = f"The circuit breaker of {name} is {state.breaker.state.replace('_', '-')}.{waits}"
            yield Problem(
                word=state.breaker.state,
                what=what,
                why=state.breaker_reason,
                since=state.breaker_since,
                url=url,
                act="Look, pause",
            )


def _stuck(signs: Signs, configuration: Configuration) -> Iterator[Problem]:
    number, since = stragglers(signs, configuration.channels)
    if number:
        what = f"{counted(number, 'delivery', 'deliveries')} should have moved: conciliation does not keep up."
        yield Problem(word="late", what=what, why=None, since=since, url=_PIPELINE, act="See conciliation")


def _letters(causes: Sequence[RecentCause]) -> Iterator[Problem]:
    for cause in causes:
        where = f" on {cause.channel}" if cause.channel else ""
        number = f"{cause.number:,}{'+' if cause.is_more else ''} dead letter{'s' if cause.number != 1 else ''}"
        what = f"{number}{where} in the last day: {cause.reason.replace('_', ' ')}."
        url = f"{_DEAD}?{urlencode({'cause': cause.fingerprint})}"
        yield Problem(word="dead", what=what, why=cause.error, since=cause.since, url=url, act="Look, replay")


def _held(backlogs: Mapping[str, Backlog]) -> Iterator[Problem]:
    for name, backlog in sorted(backlogs.items()):
        if held := backlog.by_state["held"]:
            it = "it" if held == 1 else "them"
            what = f"{_deliveries(backlog, held)} on {name} held: somebody has to say what became of {it}."
            url = f"{_REQUESTS}?{urlencode({'channel': name, 'delivery_state': 'held'})}"
            yield Problem(word="held", what=what, why=None, since=None, url=url, act="Settle them")


def _orphans(backlogs: Mapping[str, Backlog], configuration: Configuration) -> Iterator[Problem]:
    for name, backlog in sorted(backlogs.items()):
        if name not in configuration.channels:
            open_ = _deliveries(backlog, backlog.number)
            what = f"{name} left the configuration file with {open_} open: they wait for it."
            url = f"{_CHANNELS}/{name}"
            yield Problem(word="gone", what=what, why=None, since=backlog.oldest, url=url, act="See what waits")


def _deliveries(backlog: Backlog, number: int) -> str:
    return f"{backlog.precision}{number:,} {'delivery' if number == 1 else 'deliveries'}"


def _waiting(backlog: Backlog) -> str:
    said = f"{_deliveries(backlog, backlog.number)} {'waits' if backlog.number == 1 else 'wait'}."
    return said[:1].upper() + said[1:]
