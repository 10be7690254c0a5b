"""Settings from the environment (prefix `ASSISTANCE_`), read once; the only reader of `os.environ`.

`*_SECONDS` take decimals. A variable with the prefix that is not a setting is refused by name, because a misspelt
setting that is silently ignored is found only at night. `ASSISTANCE_TEST_*` belongs to the tests and is never refused.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from assistance.domain.errors import SettingsError

PREFIX = "ASSISTANCE_"
MEMORY_BROKER = "memory:"

Seconds = Annotated[float, Field(gt=0, le=7 * 24 * 3600)]


class CallerSettings(BaseSettings):
    """What a command needs that calls the API as a bot does."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", hide_input_in_errors=True, frozen=True)

    url: str = "http://127.0.0.1:8080"
    key: SecretStr | None = Field(default=None, description="An API key.")


class Settings(CallerSettings):
    """Every setting with its default; names are the variables' names without the prefix, in lower case."""

    database_url: SecretStr = Field(description="PostgreSQL URL; several hosts may be named, separated by commas.")
    broker_url: SecretStr = Field(description="amqp://… or amqps://…; several hosts may be named.")
    config: Path | None = Field(default=None, description="The TOML file with channels and topics.")
    http_host: str = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    http_workers: Annotated[int, Field(ge=1, le=64)] = Field(default_factory=lambda: os.cpu_count() or 1)
    http_threads: Annotated[int, Field(ge=1, le=1024)] = 64
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = Field(default=0, description="0 = off")
    metrics_host: str = "127.0.0.1"
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    lease_seconds: Seconds = 60
    check_after_seconds: Seconds = 300
    conciliation_interval_seconds: Seconds = 30
    relay_poll_seconds: Seconds = 1
    request_deadline_seconds: Seconds = 5
    workers_per_channel: Annotated[int, Field(ge=1, le=256)] = 8
    outbox_limit: Annotated[int, Field(ge=1)] = 1_000_000
    client_rate_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] = 600
    client_open_requests: Annotated[int, Field(ge=1)] = 10_000
    # At least as long as idempotency keys, which go with their request.
    keep_requests_days: Annotated[int, Field(ge=7)] = Field(default=90, description="counted from their end")
    keep_attempts_days: Annotated[int, Field(ge=1)] = 30
    keep_dead_letters_days: Annotated[int, Field(ge=1)] = Field(default=90, description="counted once resolved")
    console_hide_text: bool = Field(default=False, description="Lists hide customers' words from viewers.")
    sandbox_url: str | None = Field(default=None, description="Where the sandbox answers; shows /sandbox when set.")
    traces: Literal["off", "otlp"] = Field(default="off", description="`otlp` needs the extra `otel`.")
    sentry_dsn: SecretStr | None = Field(default=None, description="Reports crashes; needs the extra `sentry`.")


Read = TypeVar("Read", bound=CallerSettings)


def load_settings() -> Settings:
    """Read the environment.

    Raises `SettingsError`, with one sentence for every variable that is missing, wrong or unknown.
    """
    return _load(Settings)


def load_caller_settings() -> CallerSettings:
    """Read what a command needs that only calls the API. Raises `SettingsError`."""
    return _load(CallerSettings)


def _load(kind: type[Read]) -> Read:
    problems = [_unknown(name) for name in sorted(os.environ) if _is_unknown(name)]
    try:
        settings = kind()
    except ValidationError as error:
        problems += [_explain(str(item["loc"][0]), item["msg"], item["type"]) for item in error.errors()]
    if problems:
        raise SettingsError(" ".join(problems))
    return settings


def names_a_database() -> bool:
    """Whether the environment names a database, for commands that can do without one."""
    return bool(os.environ.get(PREFIX + "DATABASE_URL"))


def environment_with(**values: str | float | Path | None) -> dict[str, str]:
    """The environment for a child process: this one, with some settings (lower-case names) set or removed."""
    environment = dict(os.environ)
    for name, value in values.items():
        variable = PREFIX + name.upper()
        environment.pop(variable, None)
        if value is not None:
            environment[variable] = str(value)
    return environment


def share_with_children(variable: str, value: str) -> None:
    """Set a variable that is no setting of ours for this process and its children."""
    os.environ[variable] = value


def span_queue_size() -> int:
    """How many spans may wait for the collector, by the variable that OpenTelemetry has for it.

    Raises `SettingsError`.
    """
    variable, default, most = "OTEL_BSP_MAX_QUEUE_SIZE", 2048, 1_000_000
    try:
        size = int(os.environ.get(variable, default))
    except ValueError:
        size = 0
    if not 0 < size <= most:
        raise SettingsError(f"{variable} is wrong: it is a number from 1 to {most:,}.")
    return size


def faults_ordered_by_a_test() -> str | None:
    """The faults that a test arms this process with; see `runtime.faults`."""
    return os.environ.get(PREFIX + "TEST_FAULTS")


def read_secret(reference: str) -> str:
    """The value behind `env:NAME` or `file:PATH`.

    Raises `ValueError` with a sentence that never contains a value.
    """
    kind, _, place = reference.partition(":")
    if kind == "env":
        value = os.environ.get(place)
        if not value:
            raise ValueError(f"the environment variable {place} is not set")
        return value
    if kind == "file":
        try:
            value = Path(place).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"the file {place} cannot be read ({type(error).__name__})") from error
        if not value:
            raise ValueError(f"the file {place} is empty")
        return value
    raise ValueError("a secret is written env:NAME or file:PATH, never in the file itself")


def _is_unknown(name: str) -> bool:
    known = name.removeprefix(PREFIX).lower() in Settings.model_fields
    return name.startswith(PREFIX) and not name.startswith(PREFIX + "TEST_") and not known


def _unknown(name: str) -> str:
    known = [PREFIX + field.upper() for field in Settings.model_fields]
    near = difflib.get_close_matches(name, known, n=1)
    return f"{name} is not a setting{f', did you mean {near[0]}' if near else ''}."


def _explain(field: str, message: str, kind: str) -> str:
    variable = PREFIX + field.upper().removeprefix(PREFIX)
    if kind == "missing":
        return f"{variable} is not set ({Settings.model_fields[field.lower()].description})"
    return f"{variable} is wrong: {message[0].lower()}{message[1:]}."
