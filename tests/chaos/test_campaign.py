from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos.campaign import Campaign, Plan, process_kills
from tests.chaos.report import as_table
from tests.chaos.scene import FAULTS, planned
from tests.servers import ServerMissing
from tests.servers.rabbit_packages import rabbit_programs

SEED = 6
#: Other tests run on the same processors: what takes 30 s alone may take longer here.
SHORT = Plan(rounds=1, seconds=60.0, seed=SEED, rate=30.0, threads=8, density=1.0, t_bound=90.0, disk_mebibytes=384)


@pytest.mark.timeout(420)
def test_nothing_is_lost_or_shown_without_cause_while_everything_is_killed(tmp_path: Path) -> None:
    try:
        rabbit_programs()
    except ServerMissing as missing:
        pytest.skip(f"no server: {missing}")
    campaign = Campaign(SHORT, tmp_path, tell=lambda _text: None)

    campaign.run()

    told = as_table(campaign)
    assert not campaign.violations, told
    assert campaign.hit_share >= 0.9, told
    hit = sum(each.hit[name] for each in campaign.rounds for name in each.hit if name in _KILLS_OF_SERVERS)
    assert process_kills(campaign.kills()) + hit >= 60, told


def test_a_seed_always_plans_the_same_faults() -> None:
    plans = [[(at, each.name) for at, each in planned("1-1", 60.0)] for _ in range(2)]

    assert plans[0] == plans[1]
    assert plans[0] != [(at, each.name) for at, each in planned("2-1", 60.0)]


def test_a_long_round_plans_every_fault() -> None:
    assert {each.name for _, each in planned(random.random(), 300.0)} == set(FAULTS)


_KILLS_OF_SERVERS = ("kill postmaster", "kill one backend", "kill rabbit")
