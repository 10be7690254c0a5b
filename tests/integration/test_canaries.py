"""Secrets and customers' words stay where they belong: a run with marked ones, and a look into every other corner."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from assistance.clients import store
from assistance.domain.caller import Scope
from assistance.embedded.ports import free_port
from assistance.settings import environment_with
from assistance.storage.database import Database, driver_url
from tests import nursery
from tests.builders import eventually
from tests.nursery import Child

SECRETS = {
    "SLACK_BOT_TOKEN": "xoxb-canaryslack",
    "SMTP_URL": "smtp://mailer:canarysmtp@127.0.0.1:{smtp_port}",
    "HOOK_SECRET": "whsec_Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5",
    "SOURCE_SECRET": "canarysource-thirty-two-bytes-long",
    "GIVEN_KEY": "canarygiven",  # sent by a caller whom nobody knows
    "ISSUER_SECRET": "canaryissuer-thirty-two-bytes-long",
    "VERIFY_TOKEN": "canaryverify",
    "OPERATORS_URL": "http://canaryuser:canaryhook@127.0.0.1:{closed_port}/callbacks",
}
MARKS = (
    *("canaryslack", "canarysmtp", "Y2FuYXJ5", "canarysource", "canarygiven", "canarybroker"),
    *("canaryissuer", "canaryverify", "canaryuser", "canaryhook", "Y2FuYXJ5dXNlcjpjYW5hcnlob29r"),
)
WORD = "Quetzalcoatl"

CONFIGURATION = """
[channels.team]
type = "slack"
token = "env:SLACK_BOT_TOKEN"
channel = "C024BE91L"
api_url = "http://127.0.0.1:{slack_port}/api/"
pace = "1000/s"

[channels.inbox]
type = "email"
url = "env:SMTP_URL"
from = "Assistance <assistance@example.com>"
to = ["help@example.com"]
retry = "once"

[channels.hook]
type = "webhook"
url = "http://127.0.0.1:{closed_port}/"
secret = "env:HOOK_SECRET"
retry = "once"

[retry.once]
delays = ["100ms"]
give_up_after = "50ms"

[topics]
sales = "team"
mail = "inbox"
hook = "hook"

[sources.crm]
scheme = "hub"
secret = "env:SOURCE_SECRET"
verify_token = "env:VERIFY_TOKEN"

[issuers.sso]
issuer = "https://login.example.com/"
audience = "assistance"
algorithms = ["HS256"]
secret = "env:ISSUER_SECRET"

[webhooks.operator]
url = "env:OPERATORS_URL"
secret = "env:HOOK_SECRET"

[sources.crm.request]
topic = "sales"
description = "{{text}}"
"""


class Run:
    """API, worker and sandbox with marked secrets, all of them as talkative as they can be."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        self.http_port, slack_port, smtp_port, closed_port = (free_port() for _ in range(4))
        config = folder / "assistance.toml"
        config.write_text(CONFIGURATION.format(slack_port=slack_port, closed_port=closed_port), encoding="utf-8")
        url = driver_url(database_url).set(drivername="postgresql", password=password_in(database_url))
        environment = environment_with(
            database_url=url.render_as_string(hide_password=False),
            broker_url="memory:",
            config=config,
            http_port=self.http_port,
            http_workers=1,
            log_level="debug",
        ) | {name: value.format(smtp_port=smtp_port, closed_port=closed_port) for name, value in SECRETS.items()}
        # Nobody answers there: this one does nothing but try, and tell.
        no_broker = environment | {"ASSISTANCE_BROKER_URL": f"amqp://canaryuser:canarybroker@127.0.0.1:{closed_port}/"}
        self.children: list[Child] = []
        for name, command in {
            "sandbox": ["-m", "tests.e2e.sandbox_process", str(slack_port), str(smtp_port), str(folder / "sandbox")],
            "worker": ["-m", "assistance", "worker"],
            "api": ["-m", "assistance", "api"],
            "relay": ["-m", "assistance", "relay"],
        }.items():
            given = no_broker if name == "relay" else environment
            self.children.append(nursery.start(command, given, folder / f"{name}.log"))

    def call(self, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
        """The status, and the whole answer as text; 0 while nobody answers."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", data=data, headers=sent)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, f"{answer.headers}\n{answer.read().decode()}"
        except urllib.error.HTTPError as error:
            with error:
                return error.code, f"{error.headers}\n{error.read().decode()}"
        except OSError:
            return 0, ""

    def stop(self) -> None:
        for child in self.children:
            child.send_signal(15)
        for child in self.children:
            child.wait(30)

    def logs(self) -> str:
        """What the processes said; the sandbox plays a third party, who may know what it was sent."""
        return "\n".join((self.folder / f"{name}.log").read_text() for name in ("api", "worker", "relay"))


@pytest.fixture
def run(tmp_path: Path, database_url: str) -> Iterator[Run]:
    run = Run(tmp_path, database_url)
    yield run
    run.stop()


def password_in(database_url: str) -> str:
    """The database's own, or one of ours where it wants none."""
    return driver_url(database_url).password or "canarydatabase"


def command_lines() -> str:
    """What `ps` would show of every process."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(found)


def marked(text: str, *words: str) -> list[str]:
    """The lines with a mark."""
    return [line for line in text.splitlines() if any(word in line for word in words)]


def hook() -> dict[str, str]:
    """A webhook whose name nobody has to look up for long."""
    return {"url": f"https://hooks.invalid/{WORD}"}


def token() -> str:
    """A good one of the issuer."""
    claims = {"iss": "https://login.example.com/", "aud": "assistance", "sub": "bot", "exp": 4_000_000_000}
    secret = OctKey.import_key(SECRETS["ISSUER_SECRET"])
    return jwt.encode({"alg": "HS256"}, {**claims, "scope": "submit read"}, secret, algorithms=["HS256"])


#: What no program of ours foresaw: PostgreSQL then quotes the whole row.
_BREAK = """
    ALTER TABLE requests ADD CONSTRAINT a_test CHECK (priority <> 'urgent');
    ALTER TABLE webhooks ADD CONSTRAINT a_test CHECK (client <> 'sso:bot')
"""


def test_no_secret_and_no_word_of_a_customer_is_where_it_does_not_belong(run: Run, database_url: str) -> None:
    database = Database(database_url)
    key = database.run(lambda connection: store.create(connection, "bot", scopes=list(Scope))).text
    secret_part = key.rpartition("_")[2]
    eventually(lambda: run.call("/readyz")[0] == 200, 30)
    bearer = {"Authorization": f"Bearer {key}"}
    about = {"description": f"{WORD} needs help", "customer": {"id": WORD, "name": WORD}, "title": WORD}
    answers, tellings = [], []
    for topic in ("sales", "mail", "hook"):
        status, answer = run.call("/assistance", {"topic": topic, **about}, **bearer)
        assert status == 202, answer
        tellings.append(json.loads(answer.splitlines()[-1])["id"])
        answers.append(answer)
    refused = (
        run.call("/assistance", {"topic": "sales", **about}, Authorization=f"Bearer {SECRETS['GIVEN_KEY']}"),
        run.call(f"/assistance?key={key}", {"topic": "sales", **about}),
        run.call("/assistance", {"topic": "sales", "description": [WORD]}, **bearer),
        run.call("/assistance", f'{{"topic": "sales", "description": "{WORD}'.encode(), **bearer),
        run.call("/ingest/crm", {"text": WORD}, X_Hub_Signature_256=f"sha256={SECRETS['GIVEN_KEY']}"),
        run.call(f"/{secret_part}", **bearer),
    )
    assert [status for status, _ in refused] == [401, 401, 422, 400, 401, 404]
    answers += [answer for _, answer in refused[:5]]

    def ended() -> bool:
        slack, mail, hook = (
            json.loads(run.call(f"/assistance/{request_id}", **bearer)[1].splitlines()[-1]) for request_id in tellings
        )
        # The webhook's server is away, and the mail server knows no passwords.
        told = (slack["status"], hook["status"]) == ("delivered", "undeliverable")
        return told and mail["deliveries"][0]["last_error"] is not None

    eventually(ended, 20)
    about_nobody = [
        run.call(path, **bearer)[1] for path in ("/metrics", "/health", "/openapi.json", "/docs", "/topics")
    ]
    for request_id in tellings:
        answers += [run.call(f"/assistance/{request_id}{rest}", **bearer)[1] for rest in ("", "/events")]
    bot = {"Authorization": f"Bearer {token()}"}
    registered = run.call("/webhooks", {"url": "https://hooks.invalid/"}, **bearer)
    assert registered[0] == 201, registered
    signing_secret = json.loads(registered[1].splitlines()[-1])["secret"]
    answers += [run.call(path, **bearer)[1] for path in ("/webhooks", "/customers/x/export")]
    answers.append(run.call("/ingest/crm?hub.mode=subscribe&hub.challenge=1&hub.verify_token=canary", None)[1])
    with database.transaction() as connection:
        connection.exec_driver_sql(_BREAK)
    for path, body in (("/assistance", {"topic": "sales", **about, "priority": "urgent"}), ("/webhooks", hook())):
        status, answer = run.call(path, body, **bot)
        assert (status, json.loads(answer.splitlines()[-1])["code"]) == (500, "internal-error"), answer
        answers.append(answer)
    ps = command_lines()
    time.sleep(0.2)  # the last log lines
    secrets = (
        *MARKS,
        password_in(database_url),
        secret_part,
        signing_secret,
        signing_secret[6:],
        bot["Authorization"][-20:],
    )
    assert run.logs().count("api.failed") == 2
    assert not marked(run.logs(), WORD, *secrets)
    assert not marked("\n".join([*answers, *about_nobody]), *secrets)
    assert not marked("\n".join(about_nobody), WORD)
    assert not marked(ps, WORD, *secrets)
    with database.transaction() as connection:
        for table in ("dead_letters", "events", "attempts", "deliveries", "client_keys", "outbox", "channel_states"):
            found = connection.exec_driver_sql(f"SELECT t::text FROM {table} t").scalars().all()
            assert not marked("\n".join(found), WORD, *secrets), table
        said = connection.exec_driver_sql("SELECT t::text FROM requests t").scalars().all()
    database.close()
    assert len(said) == 3
    assert all(WORD in row for row in said)
    assert not marked("\n".join(said), *secrets)
