"""A bad network on every link: nothing is lost, Slack shows everything once, the API answers in time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.installation import wait_until, wait_while_growing
from tests.e2e.links import LINKS, TOXICS, Linked, linked_installation

pytestmark = pytest.mark.timeout(400)

#: REQUEST_DEADLINE_SECONDS, and what a busy machine adds.
_ANSWER_SECONDS = 5 + 3


@pytest.fixture
def linked(tmp_path: Path, database_url: str, broker_url: str) -> Iterator[Linked]:
    with linked_installation(tmp_path, database_url, broker_url) as started:
        yield started


def _post(linked: Linked, name: str, number: int, seconds: float) -> list[str]:
    """Post to both channels, evenly over the time; the descriptions."""
    texts = [f"{name} {index}" for index in range(number)]
    began = time.monotonic()

    def one(index: int) -> None:
        time.sleep(max(0.0, began + index * seconds / number - time.monotonic()))
        linked.post_until_accepted("both", texts[index])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(number)))
    return texts


def _post_over_slow(linked: Linked, link: str) -> set[str]:
    """One request while nothing but this link is slow, which is felt; its description."""
    proxy = linked.proxies[link]
    proxy.add(TOXICS["latency"])
    texts = _post(linked, link, 1, 0.0)
    wait_until(lambda: proxy.hits > 0, seconds=30, what=f"{link} saw a toxic")
    proxy.heal()
    return set(texts)


def _check(linked: Linked, expected: set[str]) -> None:
    running = linked.running
    wait_while_growing(lambda: len(running.slack_messages()), len(expected), what="everything is at Slack")
    wait_while_growing(lambda: len(running.mails()), len(expected), what="everything is in the mailbox")
    assert set(running.slack_messages()) == set(running.mails()) == expected
    wanted = f"{len(expected)} requests = {len(expected)} delivered"
    wait_until(lambda: running.ledger().startswith(wanted), seconds=60, what="everything is settled")
    doubled = {text: times for text, times in running.slack_messages().items() if times > 1}
    assert doubled == {}
    assert set(linked.statuses) <= {202, 503}
    assert linked.slowest < _ANSWER_SECONDS


def test_every_toxic_on_every_link_loses_nothing_and_doubles_nothing_at_slack(linked: Linked) -> None:
    names = list(TOXICS)
    expected: set[str] = set()
    for turn in range(len(names)):  # each link has another toxic in each turn
        for place, link in enumerate(LINKS):
            linked.proxies[link].add(TOXICS[names[(turn + place) % len(names)]])
        with ThreadPoolExecutor(1) as pool:
            posting = pool.submit(_post, linked, f"turn {turn}", 8, 1.0)
            time.sleep(1.2)
            for proxy in linked.proxies.values():
                proxy.heal()
            expected |= set(posting.result())
    # A link behind others may have been idle in every turn: nothing got as far as that.
    for link, proxy in linked.proxies.items():
        if not proxy.hits:
            expected |= _post_over_slow(linked, link)
    _check(linked, expected)


@pytest.mark.long
@pytest.mark.parametrize("link", LINKS)
def test_each_toxic_alone_on_a_link_is_felt_and_costs_nothing(linked: Linked, link: str) -> None:
    proxy, expected = linked.proxies[link], set(_post(linked, "before", 5, 0.5))
    for name, toxic in TOXICS.items():
        hits = proxy.hits
        proxy.add(toxic)
        with ThreadPoolExecutor(1) as pool:
            posting = pool.submit(_post, linked, name, 40, 4.0)
            time.sleep(4.5)
            proxy.heal()
            expected |= set(posting.result())
        assert proxy.hits > hits, f"{name} was not felt"
    _check(linked, expected)
