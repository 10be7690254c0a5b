"""`assistance up`: everything on one machine, from one command, with all its data in one folder.

PostgreSQL, the sandbox, one worker process and the API are started, watched and stopped together. Nothing listens
beyond the loopback address, unless it is asked to; then it is the API, and for callers with a key.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from pathlib import Path

import click
import structlog

from assistance.domain.errors import AssistanceError, SettingsError
from assistance.embedded.ports import free_port, is_free
from assistance.embedded.postgres import PostgresServer
from assistance.embedded.supervisor import Child, adopt_orphans, end_orphans
from assistance.embedded.welcome import asks_for_keys, first_key, first_link, key_text, welcome_text
from assistance.runtime.clock import Backoff, Deadline, sleep
from assistance.runtime.logs import configure_logs
from assistance.runtime.signals import stop_on_signals
from assistance.settings import MEMORY_BROKER, Settings, environment_with, load_settings, share_with_children
from assistance.storage.migrate import migrate

log = structlog.get_logger()

_HOST = "127.0.0.1"
_EVERYWHERE = "0.0.0.0"  # noqa: S104 (asked for, and only with keys)
_READY_SECONDS = 60.0
#: How long the processes of a run that was killed may take to leave their port.
_LEAVING_SECONDS = 20.0
_MOST_DEATHS = 3  # of one child before everything is ready
_WATCH_SECONDS = 0.2
_POLL_SECONDS = 0.05
_WRONG_SETTINGS = 2  # the exit code with which a child says that it will never start like this
_SANDBOX_TOKEN = "SANDBOX_SLACK_TOKEN"  # noqa: S105 (the name of a variable)
_SANDBOX_SECRET = "SANDBOX_CALLBACK_SECRET"  # noqa: S105 (the same)

_SANDBOX_CONFIG = """\
# Written anew by every `assistance up` that has no ASSISTANCE_CONFIG: the channels of the sandbox.

[channels.sales-team]
type = "slack"
token = "env:{token}"
channel = "C0SALESTEAM"
api_url = "http://{host}:{slack_port}/api/"
pace = "100/s"  # the real Slack takes one message a second; here nobody wants to wait

[channels.pricing-inbox]
type = "email"
url = "smtp://{host}:{smtp_port}"
from = "Assistance <assistance@example.com>"
to = ["pricing@example.com"]

[topics]
sales = "sales-team"
pricing = "pricing-inbox"

[webhooks.sandbox-bot]  # what a bot would be told; a request may also name this URL as its callback_url
url = "http://{host}:{slack_port}/callbacks"
secret = "env:{callback_secret}"
"""


def run_up(folder: Path, *, port: int | None = None, public: bool = False) -> int:
    """Run everything until SIGINT or SIGTERM; returns the exit code. Call it from the main thread.

    `port` is the API's port, 0 a free one, none the one of the settings. `public` lets the API listen on every address
    of this machine; an installation without a client then gets its first, and its key is shown. Raises `SettingsError`
    when a port is taken, the folder cannot be used or belongs to another `assistance up`, or a setting is wrong.
    """
    # These two are not for the caller to choose: the database is the embedded one, the broker lives in the worker.
    share_with_children("ASSISTANCE_DATABASE_URL", f"postgresql://{_HOST}/assistance")
    share_with_children("ASSISTANCE_BROKER_URL", MEMORY_BROKER)
    settings = load_settings()
    if settings.http_host not in (_HOST, "localhost"):
        raise SettingsError(
            f"ASSISTANCE_HTTP_HOST is {settings.http_host}: `assistance up` listens on {_HOST} only, or with --public "
            "everywhere."
        )
    host = _EVERYWHERE if public else _HOST
    log_format = settings.log_format if "log_format" in settings.model_fields_set else "console"
    configure_logs("up", level=settings.log_level, fmt=log_format)
    stop = stop_on_signals()
    adopt_orphans()
    folder = folder.absolute()
    with _own_folder(folder) as was_killed:
        port = _http_port(settings.http_port if port is None else port, host, was_killed=was_killed)
        postgres = PostgresServer(folder / "postgres")
        try:
            postgres.start()
            migrate(postgres.url)
            if public and (key := first_key(postgres.url)):
                click.echo(key_text(key))
            url = f"http://{_HOST}:{port}"
            link = first_link(postgres.url, url)
            welcome = welcome_text(url, folder, link, public=public, with_key=asks_for_keys(postgres.url))
            children = _children(settings, folder, f"{host}:{port}", postgres.url, log_format)
            return _run(children, postgres, url, welcome, stop)
        finally:
            postgres.stop()


class _Children:
    """The processes of one run, and the sandbox's address."""

    def __init__(self, sandbox: Child, worker: Child, api: Child, sandbox_url: str) -> None:
        #: In the order in which they stop: first the door, last the place where deliveries go.
        self.all = (api, worker, sandbox)
        self.worker = worker
        self.sandbox_url = sandbox_url

    def pids(self) -> list[int | None]:
        return [child.pid for child in self.all]


def _run(children: _Children, postgres: PostgresServer, url: str, welcome: str, stop: threading.Event) -> int:
    try:
        for child in reversed(children.all):
            child.start()
        code = _wait_until_ready(children, url, stop)
        if code is not None:
            return code
        click.echo(welcome)
        _watch(children, postgres, stop)
        return 0
    finally:
        for child in children.all:
            child.stop()
            end_orphans([*children.pids(), postgres.pid])


def _wait_until_ready(children: _Children, url: str, stop: threading.Event) -> int | None:
    """None once everything is ready; an exit code when it will not be.

    Raises `AssistanceError` when it takes too long or a child keeps dying.
    """
    deadline = Deadline.after(_READY_SECONDS)
    while not (_answers(f"{children.sandbox_url}/livez") and _answers(f"{url}/readyz")):
        if stop.wait(_POLL_SECONDS):
            return 0
        for child in children.all:
            if child.exit_code() == _WRONG_SETTINGS:
                return _WRONG_SETTINGS  # it has said why
            child.keep_running()
            if child.deaths >= _MOST_DEATHS:
                raise AssistanceError(f"The {child.name} cannot be started; the lines above say why.")
        if deadline.has_passed:
            raise AssistanceError(f"Not everything was ready within {_READY_SECONDS:.0f} s; the lines above say why.")
    return None


def _watch(children: _Children, postgres: PostgresServer, stop: threading.Event) -> None:
    """Restart what dies until asked to stop."""
    backoff = Backoff(first=0.2, most=10.0)
    while not stop.wait(_WATCH_SECONDS):
        # Before the restarts: workers of a killed web server would keep its port.
        end_orphans([*children.pids(), postgres.pid])
        for child in children.all:
            child.keep_running()
        if postgres.pid is None:
            log.warning("up.restarting", child="postgres")
            try:
                postgres.start()
            except AssistanceError as error:
                log.warning("up.postgres_failed", reason=str(error))
                backoff.wait(stop)
            else:
                backoff.reset()
                # The worker's advisory locks, which /readyz looks at, died with the server.
                children.worker.stop()
                children.worker.start()


def _children(settings: Settings, folder: Path, address: str, database_url: str, log_format: str) -> _Children:
    http_host, _, http_port = address.partition(":")
    slack_port, smtp_port = free_port(), free_port()
    config = settings.config
    if config is None:
        config = folder / "sandbox.toml"
        text = _SANDBOX_CONFIG.format(
            token=_SANDBOX_TOKEN,
            callback_secret=_SANDBOX_SECRET,
            host=_HOST,
            slack_port=slack_port,
            smtp_port=smtp_port,
        )
        config.write_text(text, encoding="utf-8")
    sandbox_url = f"http://{_HOST}:{slack_port}"
    environment = environment_with(
        database_url=database_url,
        broker_url=MEMORY_BROKER,
        config=config.absolute(),
        http_host=http_host,
        http_port=http_port,
        url=f"http://{_HOST}:{http_port}",
        sandbox_url=sandbox_url,
        log_format=log_format,
    )
    environment[_SANDBOX_TOKEN] = "xoxb-sandbox"
    environment[_SANDBOX_SECRET] = "whsec_c2FuZGJveC1jYWxsYmFjay1zZWNyZXQhISE="
    _write_env(folder / "env", environment)
    python = (sys.executable, "-m")
    places = ["--slack-port", str(slack_port), "--smtp-port", str(smtp_port), "--folder", str(folder / "sandbox")]
    sandbox = [*python, "assistance.embedded.sandbox", "--log-format", log_format, *places]
    return _Children(
        sandbox=Child("sandbox", sandbox, environment, stop_seconds=5),
        worker=Child("worker", [*python, "assistance", "worker"], environment, stop_seconds=30),
        api=Child("api", [*python, "assistance", "api"], environment, stop_seconds=25),
        sandbox_url=sandbox_url,
    )


def _write_env(path: Path, environment: Mapping[str, str]) -> None:
    """What a shell has to read before other commands can look at this installation; it holds the password."""
    ours = [f"ASSISTANCE_{name}" for name in ("DATABASE_URL", "BROKER_URL", "CONFIG", "URL")]
    names = (*ours, _SANDBOX_TOKEN, _SANDBOX_SECRET)
    path.touch(mode=0o600)
    lines = [f"export {name}={shlex.quote(environment[name])}\n" for name in names]
    path.write_text("".join(lines), encoding="utf-8")


@contextlib.contextmanager
def _own_folder(folder: Path) -> Iterator[bool]:
    """Hold the folder, made with mode 0700, for this process alone; yields whether its last owner was killed.

    Raises `SettingsError`.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SettingsError(f"The folder {folder} cannot be used: {reason}.") from error
    with os.fdopen(descriptor, "r+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SettingsError(f"Another `assistance up` is running in {folder}.") from error
        was_killed = bool(lock.read())
        _rewrite(lock.fileno(), json.dumps({"pid": os.getpid()}))
        try:
            yield was_killed
        except PermissionError as error:
            raise SettingsError(f"{error.filename or folder} cannot be used: permission denied.") from error
        finally:
            _rewrite(lock.fileno(), "")


def _rewrite(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)


def _http_port(port: int, host: str, *, was_killed: bool) -> int:
    """The port for the API; one that only a killed run still holds is waited for.

    Raises `SettingsError` when it is taken or not ours to take.
    """
    if port == 0:
        return free_port()
    deadline = Deadline.after(_LEAVING_SECONDS if was_killed else 0)
    try:
        while not is_free(port, host):
            if deadline.has_passed:
                raise SettingsError(f"Port {port} is in use: stop what listens there, or name another with --port.")
            sleep(_POLL_SECONDS)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SettingsError(f"Port {port} cannot be used: {reason}.") from error
    return port


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, HTTPException, urllib.error.URLError):
        return False
