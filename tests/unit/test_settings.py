"""Settings from the environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from assistance.domain.errors import SettingsError
from assistance.settings import environment_with, load_settings, read_secret


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("ASSISTANCE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ASSISTANCE_DATABASE_URL", "postgresql://u:s3cret@h/d")
    monkeypatch.setenv("ASSISTANCE_BROKER_URL", "amqp://u:s3cret@h")


def refusal() -> str:
    with pytest.raises(SettingsError) as refused:
        load_settings()
    return str(refused.value)


def test_the_two_urls_are_enough() -> None:
    settings = load_settings()
    assert (settings.lease_seconds, settings.check_after_seconds, settings.http_port) == (60, 300, 8080)
    assert (settings.http_host, settings.outbox_limit, settings.metrics_port) == ("127.0.0.1", 1_000_000, 0)
    assert settings.config is None


def test_a_missing_setting_is_named_with_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASSISTANCE_DATABASE_URL")
    monkeypatch.delenv("ASSISTANCE_BROKER_URL")
    assert "ASSISTANCE_DATABASE_URL is not set" in refusal()
    assert "ASSISTANCE_BROKER_URL is not set" in refusal()


def test_a_misspelt_setting_is_refused_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSISTANCE_LEASE_SECOND", "5")
    assert "ASSISTANCE_LEASE_SECOND is not a setting, did you mean ASSISTANCE_LEASE_SECONDS." in refusal()


def test_variables_of_the_tests_and_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSISTANCE_TEST_ANYTHING", "x")
    monkeypatch.setenv("ASSISTANT_DATABASE", "x")
    load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LEASE_SECONDS", "0"),
        ("LEASE_SECONDS", "-1"),
        ("LEASE_SECONDS", "soon"),
        ("LEASE_SECONDS", "inf"),
        ("LEASE_SECONDS", "nan"),
        ("LEASE_SECONDS", "604801"),
        ("HTTP_PORT", "65536"),
        ("WORKERS_PER_CHANNEL", "0"),
        ("OUTBOX_LIMIT", "0"),
        ("KEEP_REQUESTS_DAYS", "0"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_value_is_refused_by_the_variables_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"ASSISTANCE_{name}", value)
    assert refusal().startswith(f"ASSISTANCE_{name} is wrong: ")


def test_seconds_take_decimals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSISTANCE_RELAY_POLL_SECONDS", "0.25")
    assert load_settings().relay_poll_seconds == 0.25


def test_a_password_is_in_no_message_and_no_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "s3cret" not in repr(load_settings())
    monkeypatch.setenv("ASSISTANCE_HTTP_PORT", "s3cret")
    assert "s3cret" not in refusal()


def test_a_secret_is_read_from_a_variable_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "t1")
    (tmp_path / "token").write_text("t2\n", encoding="utf-8")
    assert read_secret("env:A_TOKEN") == "t1"
    assert read_secret(f"file:{tmp_path / 'token'}") == "t2"


def test_a_secret_that_is_not_there_is_refused_without_showing_any(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text(" \n", encoding="utf-8")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for reference, sentence in (
        ("env:NOT_THERE", "the environment variable NOT_THERE is not set"),
        ("xoxb-abc", "a secret is written env:NAME or file:PATH"),
        (f"file:{tmp_path / 'none'}", "cannot be read"),
        (f"file:{tmp_path / 'bytes'}", "cannot be read"),
        (f"file:{tmp_path / 'empty'}", "is empty"),
    ):
        with pytest.raises(ValueError, match=r"secret|is not set|cannot be read|is empty") as refused:
            read_secret(reference)
        assert sentence in str(refused.value)
        assert "xoxb-abc" not in str(refused.value)


def test_a_child_gets_this_environment_with_changes() -> None:
    child = environment_with(http_port=9000, broker_url=None, config=Path("a.toml"))
    assert child["ASSISTANCE_HTTP_PORT"] == "9000"
    assert child["ASSISTANCE_CONFIG"] == "a.toml"
    assert "ASSISTANCE_BROKER_URL" not in child
    assert "ASSISTANCE_BROKER_URL" in os.environ
    assert child["PATH"] == os.environ["PATH"]
