"""Calls of every operation, made up by Schemathesis from the description of the API, and checked by it."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import from_schema
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished
from schemathesis.hooks import unregister

from assistance.api.parsing import MAX_BODY_BYTES

_CONFIGURATION = """
seed = {seed}
continue-on-failure = true
suppress-health-check = ["all"]

[generation]
max-examples = {cases}
database = "none"
no-shrink = true

[phases.stateful]
generation.max-examples = {chains}

[checks]
max_response_time = {slowest}

# 413 and 422 as well: `refused_for_a_reason` looks at those.
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "401", "403", "404", "409", "413", "422", "429"]

# The usual ones, and 413: a body may be wrong and too large at once.
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "409", "413", "415", "422", "429"]

[auth.wfc]
path = "{credentials}"
user = "{first}"
peers = {peers}
"""
#: What a call may be refused for that no schema can say.
_BEYOND_SCHEMAS = frozenset({"idempotency-key-reused", "past", "too-early", "url-refused", "url", "email"})
#: Bodies of a signed source: good ones, some of which no request can be made of, and broken ones.
_SENT = [
    *(
        json.dumps({"text": text}).encode()
        for text in ("The login fails.", "é\u2028\U0001f600", "a\0b", "\ud800", 7, None)
    ),
    b"{}",
    b"",
    b"\xff",
    b'{"text": "The login fails.", "text": 1}',
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A signed source of the installation, with what its sender knows."""

    name: str
    secret: str
    verify_token: str


#: In seconds: the deadline that a call has unless the operator sets another.
_SLOWEST = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """How many made-up calls of each operation, and how many chains of calls."""

    cases: int
    chains: int
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A call whose answer is not what the description says."""

    operation: str
    check: str
    said: str
    curl: str

    def __str__(self) -> str:
        return f"{self.operation}, {self.check}: {self.said}\n    {self.curl}"


@dataclass(kw_only=True, slots=True)
class Run:
    """What was answered, by operation and HTTP status, and what was found."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def with_status(self, operation: str, statuses: range = range(600)) -> int:
        """How many calls of an operation were answered so."""
        return sum(n for (name, status), n in self.answers.items() if name == operation and status in statuses)


def run(url: str, keys: Mapping[str, str], viewer: str, source: Source, folder: Path, effort: Effort) -> Run:
    """Call every operation over HTTP, rightly and wrongly, as the first of the clients whose `keys` these are.

    None of them may see what is another's; `viewer` is the key of somebody who may, for what nobody else is shown.
    """
    first, *_ = keys
    config = SchemathesisConfig.from_str(
        _CONFIGURATION.format(
            seed=effort.seed,
            cases=effort.cases,
            chains=effort.chains,
            slowest=_SLOWEST,
            credentials=_credentials(keys, folder),
            first=first,
            peers=json.dumps(list(keys)),
        )
    )
    # With a key, so that the description names the topics.
    headers = {"Authorization": f"Bearer {keys[first]}"}
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config, headers=headers)
    done = Run()
    hook = schemathesis.hook("before_call")(_at_its_end(source, headers["Authorization"], f"Bearer {viewer}"))
    try:
        for event in from_schema(schema).execute():
            if isinstance(event, ScenarioFinished):
                _count(event, done)
            elif isinstance(event, NonFatalError | FatalError):
                raise AssertionError(str(getattr(event, "info", event)))
    finally:
        unregister(hook)
    return done


def _credentials(keys: Mapping[str, str], folder: Path) -> Path:
    path = folder / "credentials.json"
    users = [
        {"name": name, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {key}"}]}
        for name, key in keys.items()
    ]
    path.write_text(json.dumps({"auth": users}), encoding="utf-8")
    return path


def _at_its_end(source: Source, client: str, viewer: str) -> Callable[[HookContext, Case[Any], dict[str, Any]], None]:
    """What cannot be made up is put in: every other good call to a source comes from its sender."""
    turns = count()

    def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
        if "wait" in str(case.headers.get("Prefer")):
            # Whoever waits for news of a request that begins tomorrow is answered late, as described.
            case.headers["Prefer"] = "wait=0"
        if case.path == "/stats":
            if case.headers.get("Authorization") == client:
                case.headers["Authorization"] = viewer
            if case.meta is not None and case.meta.generation.mode.is_positive:
                # No schema can say that one lies before the other, and not too far, nor which channels there are.
                for name in ("since", "span", "channel"):
                    case.query.pop(name, None)
        if case.path != "/ingest/{source}" or case.meta is None or not case.meta.generation.mode.is_positive:
            return
        turn = next(turns)
        if turn % 2:
            return
        case.path_parameters["source"] = source.name
        if case.method == "GET":
            case.query |= {"hub.mode": "subscribe", "hub.challenge": "42", "hub.verify_token": source.verify_token}
        else:
            kwargs["data"] = body = _SENT[turn // 2 % len(_SENT)]
            signature = hmac.digest(source.secret.encode(), body, hashlib.sha256).hex()
            case.headers["X-Hub-Signature-256"] = f"sha256={signature}"

    return before_call


@schemathesis.check
def refused_for_a_reason(_context: CheckContext, response: Response, case: Case[Any]) -> bool | None:
    """What the schema allows is refused only for what no schema can say."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return None
    if response.status_code == 413:
        body = response.request.body
        assert isinstance(body, bytes) and len(body) > MAX_BODY_BYTES, "refused as too large, which it is not"
    if response.status_code != 422:
        return None
    problem = response.json()
    reasons = problem.get("errors") or [problem]
    wrong = [reason for reason in reasons if reason["code"] not in _BEYOND_SCHEMAS]
    assert not wrong, f"refused although the schema allows it: {wrong}"
    return None


def _count(event: ScenarioFinished, done: Run) -> None:
    for name, interaction in event.recorder.interactions.items():
        operation = event.recorder.cases[name].value.operation
        # Calls by methods that a path does not take are made and checked, but are none of the operation.
        if interaction.response is not None and interaction.request.method.upper() == operation.method.upper():
            done.answers[operation.label, interaction.response.status_code] += 1
    done.findings += _findings(event)


def _findings(event: ScenarioFinished) -> Iterator[Finding]:
    for checks in event.recorder.checks.values():
        for check in checks:
            if check.failure_info is not None:
                failure = check.failure_info.failure
                yield Finding(
                    operation=failure.operation or "",
                    check=check.name,
                    said=f"{failure.title}: {failure.message}",
                    curl=check.failure_info.code_sample,
                )
