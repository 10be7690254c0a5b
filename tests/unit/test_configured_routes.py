"""Topics with a fallback: what is understood, and how mistakes are told."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistance.domain.route import Route, Step, freeze_steps, thaw_steps
from tests.unit.test_configuration import load, mistakes

CHANNELS = "".join(f'[channels.{name}]\ntype = "webhook"\nurl = "https://x.test/"\n' for name in "abcd")
NAMES = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=3).map(tuple)


def test_a_topic_may_be_a_channel_a_list_or_a_table(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        f"""{CHANNELS}
[topics]
one = "a"
many = ["a", "b"]

[topics.plain]
to = "a"

[topics." Steps "]
to = ["a"]
fallback = [{{to = "b", after = "2m"}}, {{to = ["c"], after = "10m"}}]
last_resort = "d"
""",
    )
    assert found.topics == {
        "one": Route(to=("a",)),
        "many": Route(to=("a", "b")),
        "plain": Route(to=("a",)),
        "steps": Route(
            to=("a",),
            fallback=(Step(to=("b",), after_seconds=120.0), Step(to=("c",), after_seconds=600.0)),
            last_resort=("d",),
        ),
    }
    assert [step.to for step in found.topics["steps"].steps] == [("a",), ("b",), ("c",), ("d",)]
    assert len(found.topics["plain"].steps) == 1


def step(text: str) -> str:
    return f'to = "a"\nfallback = [{text}]'


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ('to = "a"\nfallbacks = []', "[topics.t] fallbacks is not a key; did you mean 'fallback'?"),
        ("", "[topics.t] to names no channel"),
        ("to = []", "[topics.t] to names no channel"),
        ('to = "z"', "[topics.t] to goes to 'z', which is not under [channels]"),
        ('to = "a"\nfallback = "b"', "[topics.t] fallback is not a list such as"),
        ('to = "a"\nfallback = ["b"]', "[topics.t] fallback is not a list such as"),
        (step('{to = "b"}'), "[topics.t] fallback 1 after is not a duration"),
        (step('{to = "b", after = "0s"}'), "[topics.t] fallback 1 after must be longer than nothing"),
        (step('{after = "1m"}'), "[topics.t] fallback 1 to names no channel"),
        (step('{to = "z", after = "1m"}'), "[topics.t] fallback 1 to goes to 'z'"),
        (step('{to = "b", afterr = "1m"}'), "[topics.t] fallback 1 afterr is not a key; did you mean 'after'?"),
        (
            step('{to = "b", after = "2m"}, {to = "c", after = "2m"}'),
            "[topics.t] fallback 2 after must be longer than that of the step before",
        ),
        (step('{to = ["b", "a"], after = "1m"}'), "[topics.t] names 'a' in two steps; a channel belongs into one"),
        ('to = "a"\nlast_resort = "a"', "[topics.t] names 'a' in two steps"),
        ('to = "a"\nlast_resort = []', "[topics.t] last_resort names no channel"),
        ('to = "a"\nlast_resort = "z"', "[topics.t] last_resort goes to 'z'"),
    ],
)
def test_each_mistake_in_a_route_is_one_sentence_that_names_its_place(
    tmp_path: Path, table: str, sentence: str
) -> None:
    found = mistakes(tmp_path, f"{CHANNELS}\n[topics.t]\n{table}\n")
    assert any(f"assistance.toml: {sentence}" in mistake for mistake in found), found
    assert all(mistake.endswith(".") for mistake in found)


def test_one_wrong_time_is_one_mistake(tmp_path: Path) -> None:
    table = step('{to = "b", after = "2 m"}, {to = "c", after = "3m"}')
    assert len(mistakes(tmp_path, f"{CHANNELS}\n[topics.t]\n{table}\n")) == 1


@given(st.lists(st.builds(Step, to=NAMES, after_seconds=st.none() | st.floats(0, 1e6)), max_size=4).map(tuple))
def test_a_frozen_plan_thaws_to_the_same_steps(steps: tuple[Step, ...]) -> None:
    assert thaw_steps(freeze_steps(steps)) == steps
