"""`assistance unknown`: what the person on call does about deliveries of which nobody can tell."""

from __future__ import annotations

import json

import pytest

from assistance.domain.outcome import CannotTell, Unknown
from tests.builders import World
from tests.terminal import Terminal


def held(world: World, topic: str = "help", *channels: str) -> str:
    """The ref of a request whose deliveries to these channels are held."""
    request = world.submit(topic).id
    for channel in channels or ("people",):
        world.deliver(request, Unknown(code="cut", detail="Cut."), channel)
        world.end_look(world.take(request, channel).lease, CannotTell(code="no_lookup", detail="It cannot."))
        world.execute(
            "UPDATE deliveries SET state = 'unknown', held_at = now() WHERE request_id = :id AND channel = :channel",
            id=request,
            channel=channel,
        )
    return str(world.request(request).ref)


def states(world: World) -> list[str]:
    return sorted(row.state for row in world.rows("SELECT state FROM deliveries"))


def test_held_deliveries_are_listed_for_people_and_for_programs(world: World, terminal: Terminal) -> None:
    ref = held(world, "both", "people", "inbox")
    code, text = terminal.run("unknown", "list", "--channel", "people")
    assert (code, text.count(ref)) == (0, 1)
    assert "no_lookup: It cannot." in text
    code, text = terminal.run("unknown", "list", "--json")
    rows = [json.loads(line) for line in text.splitlines()]
    assert code == 0
    assert {(row["ref"], row["channel"]) for row in rows} == {(ref, "people"), (ref, "inbox")}
    assert terminal.run("unknown", "list", "--channel", "nobody", "--json") == (0, "")


def test_show_says_that_a_delivery_is_held(world: World, terminal: Terminal) -> None:
    code, text = terminal.run("show", held(world))
    assert code == 0
    assert "unknown (held)" in text


@pytest.mark.parametrize(("word", "state"), [("--delivered", "delivered"), ("--resend", "pending"), ("--dead", "dead")])
def test_a_ref_settles_all_that_its_request_has(world: World, terminal: Terminal, word: str, state: str) -> None:
    ref = held(world, "both", "people", "inbox")
    assert terminal.run("unknown", "resolve", ref, word, "--yes") == (0, "2 held deliveries settled.\n")
    assert states(world) == [state, state]


def test_single_deliveries_are_settled_by_their_id(world: World, terminal: Terminal) -> None:
    held(world, "both", "people", "inbox")
    (delivery,) = world.rows("SELECT id FROM deliveries WHERE channel = 'inbox'")
    assert terminal.run("unknown", "resolve", str(delivery.id), "--delivered", "--yes")[0] == 0
    assert states(world) == ["delivered", "unknown"]


def test_without_a_yes_nothing_is_changed(world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = held(world)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "n")
    assert terminal.run("unknown", "resolve", ref, "--dead")[0] == 1
    assert states(world) == ["unknown"]
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "y")
    assert terminal.run("unknown", "resolve", ref, "--dead")[0] == 0
    assert states(world) == ["dead"]


@pytest.mark.parametrize("words", [(), ("--delivered", "--dead"), ("--resend", "--resend", "--dead")])
def test_exactly_one_decision_is_asked_for(world: World, terminal: Terminal, words: tuple[str, ...]) -> None:
    ref = held(world)
    assert terminal.run("unknown", "resolve", ref, "--yes", *words)[0] == 2
    assert states(world) == ["unknown"]


def test_what_cannot_be_settled_is_named_and_the_rest_is_done(world: World, terminal: Terminal) -> None:
    ref, plain = held(world), world.submit()
    delivery = world.delivery(plain.id).id
    names = (ref, plain.ref, str(delivery), "nonsense")
    code, text = terminal.run("unknown", "resolve", *names, "--delivered", "--yes")
    assert (code, text) == (1, "1 held deliveries settled.\n")
    assert f"Request {plain.ref} has no held delivery." in terminal.err
    assert f"Delivery {delivery} is not held: it is pending." in terminal.err
    assert "Nothing is called nonsense." in terminal.err
    assert states(world) == ["delivered", "pending"]
