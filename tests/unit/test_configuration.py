"""The TOML file: what is understood, and how mistakes are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistance.configuration import Configuration, fold_topic, load_configuration, parse_duration
from assistance.domain.errors import SettingsError
from assistance.domain.route import Route
from assistance.resilience.retry_schedule import HUMAN

RIGHT = """
[channels.sales-team]
type = "slack"
token = "env:SLACK_BOT_TOKEN"
channel = "C024BE91L"
timeout = "2.5s"
retry = "quick"
settle = "300ms"
looks = 3

[channels.hook]
type = "webhook"
url = "https://example.com/hook"

[retry.quick]
delays = ["1s", "10m"]
give_up_after = "2h"
jitter = 0.1

[topics]
" Sales " = "sales-team"
pricing = ["hook", "sales-team"]
"""


def load(folder: Path, text: str) -> Configuration:
    path = folder / "assistance.toml"
    path.write_text(text, encoding="utf-8")
    return load_configuration(path)


def mistakes(folder: Path, text: str) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        load(folder, text)
    return str(refused.value).splitlines()


def test_a_right_file_is_understood_as_written(tmp_path: Path) -> None:
    found = load(tmp_path, RIGHT)
    assert found.topics == {"sales": Route(to=("sales-team",)), "pricing": Route(to=("hook", "sales-team"))}
    team, hook = found.channels["sales-team"], found.channels["hook"]
    assert (team.type.name, team.timeout_seconds, team.settle_seconds, team.looks) == ("slack", 2.5, 0.3, 3)
    assert (team.retry.delays, team.retry.give_up_after, team.retry.jitter) == ((1.0, 600.0), 7200.0, 0.1)
    assert team.options == {"token": "env:SLACK_BOT_TOKEN", "channel": "C024BE91L"}
    assert (hook.timeout_seconds, hook.settle_seconds, hook.looks, hook.retry) == (10.0, 2.0, 2, HUMAN)


@pytest.mark.parametrize(
    ("kind", "line", "pace"),
    [("slack", "", 1.0), ("webhook", "", None), ("slack", 'pace = "30/m"', 0.5), ("webhook", 'pace = "100/h"', 1 / 36)],
)
def test_a_channel_has_the_pace_of_its_type_unless_the_file_says_else(
    tmp_path: Path, kind: str, line: str, pace: float | None
) -> None:
    found = load(tmp_path, f'[channels.x]\ntype = "{kind}"\n{line}\n[topics]\nsales = "x"\n')
    assert found.channels["x"].pace_per_second == (pace if pace is None else pytest.approx(pace))


def test_the_digest_names_exactly_one_version_of_the_file(tmp_path: Path) -> None:
    first = load(tmp_path, RIGHT).digest
    assert first == load(tmp_path, RIGHT).digest
    assert first.startswith("sha256:")
    assert first != load(tmp_path, RIGHT + "\n# changed\n").digest


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('[channels.x]\ntype = "slak"', "did you mean 'slack'"),
        ("[channels.x]\ntype = 7", "[channels.x] type is 7"),
        ("[channels.x]", "[channels.x] type is None"),
        ('[channels.dlq]\ntype = "slack"', "[channels.dlq] is not a channel name"),
        ('[channels.dlx]\ntype = "slack"', "[channels.dlx] is not a channel name"),
        ('[channels.Sales]\ntype = "slack"', "is not a channel name"),
        (f'[channels.a{"b" * 40}]\ntype = "slack"', "is not a channel name"),
        ("[channels]\nx = 3", "[channels.x] is not a table"),
        ("[channel.x]", "did you mean 'channels'"),
        ('[channels.x]\ntype = "slack"\ntimeout = "5"', "[channels.x] timeout is not a duration"),
        ('[channels.x]\ntype = "slack"\ntimeout = "0s"', "[channels.x] timeout must be longer than nothing"),
        ('[channels.x]\ntype = "slack"\nlooks = 0', "[channels.x] looks is not a number from 1 to 10"),
        ('[channels.x]\ntype = "slack"\nlooks = true', "[channels.x] looks is not a number from 1 to 10"),
        ('[channels.x]\ntype = "slack"\nretry = "humen"', "did you mean 'human'"),
        ('[channels.x]\ntype = "slack"\nretry = ["1s"]', "[channels.x] retry is ['1s']"),
        ("[retry.r]", "[retry.r] delays is not a list of durations"),
        ("[retry.r]\ndelays = []", "[retry.r] delays is not a list of durations"),
        ('[retry.r]\ndelays = ["1s", 5]', "[retry.r] delays is not a duration"),
        ('[retry.r]\ndelays = ["1s"]\njitter = 1', "[retry.r] jitter is not a number from 0"),
        ('[retry.r]\ndelays = ["1s"]\ndelay = "1s"', "did you mean 'delays'"),
        ('[topics]\nsales = "nobody"', "[topics] sales goes to 'nobody', which is not under [channels]"),
        ("[topics]\nsales = []", "[topics] sales names no channel"),
        ("[topics]\nsales = 3", "[topics] sales names no channel"),
        ("[topics]\nsales = [3]", "[topics] sales names no channel"),
        ('[topics]\n" " = "x"', "is not a topic: 1 to 64 characters"),
        (f'[topics]\n{"t" * 65} = "x"', "is not a topic: 1 to 64 characters"),
        ('[topics]\nSales = "x"\nsales = "x"', "[topics] sales is named twice"),
        ("topics = 3", "[topics] is not a table"),
        ("", "[topics] names no topic"),
    ],
)
def test_each_mistake_is_one_sentence_that_names_its_place(tmp_path: Path, line: str, sentence: str) -> None:
    found = mistakes(tmp_path, line)
    assert any(sentence in mistake for mistake in found), found
    assert all(mistake.startswith("assistance.toml: ") and mistake.endswith(".") for mistake in found)


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    text = '[channels.x]\ntype = "fax"\n[retry.r]\ndelays = 3\n[topics]\nsales = "y"\n'
    assert len(mistakes(tmp_path, text)) == 3


def test_a_channel_named_twice_for_one_topic_is_refused(tmp_path: Path) -> None:
    text = RIGHT.replace('["hook", "sales-team"]', '["hook", "hook"]')
    assert mistakes(tmp_path, text) == [
        'assistance.toml: [topics] pricing names no channel: write "channel" or a list of different channels.'
    ]


def test_a_retry_schedule_without_a_wait_is_refused(tmp_path: Path) -> None:
    text = RIGHT.replace('["1s", "10m"]', '["0s"]')
    assert mistakes(tmp_path, text) == ["assistance.toml: [retry.quick] delays must be longer than nothing."]


def test_a_missing_file_a_folder_and_no_toml_are_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        load_configuration(tmp_path / "none.toml")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_configuration(tmp_path)
    with pytest.raises(SettingsError, match="is not a TOML file"):
        load(tmp_path, "[channels")


@pytest.mark.parametrize(
    ("text", "seconds"), [("300ms", 0.3), ("5s", 5), ("1.5s", 1.5), ("10m", 600), ("24h", 86400), ("0s", 0)]
)
def test_durations_are_written_with_their_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["5", "s", "-5s", "5 s", "5d", "", "1e3s", "٣s", 5, 5.0, None, True])
def test_anything_else_is_not_a_duration(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["87601h", "99999999999999h", "9" * 400 + "s"])
def test_a_duration_that_leads_out_of_every_calendar_is_a_mistake(text: str) -> None:
    with pytest.raises(ValueError, match="is longer than ten years"):
        parse_duration(text)


def test_topics_are_compared_trimmed_and_without_case() -> None:
    assert fold_topic("  SALES ") == fold_topic("sales")
    assert fold_topic("STRASSE") == fold_topic("straße")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('token = "xoxb-literal"', "token is wrong: a secret is written env:NAME or file:PATH"),
        ('token = "env:NO_SUCH_VARIABLE"', "token is wrong: the environment variable NO_SUCH_VARIABLE is not set"),
        ('chanel = "C1"', "chanel is not a key of type 'slack'; did you mean 'channel'"),
        ("", "token is missing"),
    ],
)
def test_wrong_options_of_a_channel_are_told_when_it_is_built(tmp_path: Path, line: str, sentence: str) -> None:
    found = load(tmp_path, f'[channels.x]\ntype = "slack"\n{line}\n[topics]\nsales = "x"\n')
    with pytest.raises(SettingsError) as refused:
        found.channels["x"].build()
    assert sentence in str(refused.value)
    assert "xoxb-literal" not in str(refused.value)


def test_a_secret_is_read_from_the_environment_when_a_channel_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLACK_BOT_TOKEN", "xoxb-1")
    assert load(tmp_path, RIGHT).channels["sales-team"].build().destination
