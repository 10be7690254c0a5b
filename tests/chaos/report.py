"""What a campaign tells: one line while it runs, a table and JSON at its end."""

from __future__ import annotations

import json
import os
import platform
import time
from collections import Counter
from typing import Any, TextIO

from assistance import __version__
from tests.chaos.campaign import Campaign, process_kills

_SHOWN_VIOLATIONS = 20
_LINE_SECONDS = 15.0


class Progress:
    """One line that is written over on a terminal; elsewhere a plain line now and then."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._live = out.isatty()
        self._last = 0.0

    def __call__(self, text: str) -> None:
        if self._live:
            self._out.write(f"\r\x1b[K{text}")
        elif time.monotonic() - self._last < _LINE_SECONDS:
            return
        else:
            self._out.write(text + "\n")
        self._last = time.monotonic()
        self._out.flush()

    def end(self) -> None:
        if self._live:
            self._out.write("\r\x1b[K")


def summary(campaign: Campaign) -> dict[str, Any]:
    """The run as plain data."""
    planned, hit = _sum(campaign, "planned"), _sum(campaign, "hit")
    kills = campaign.kills()
    times = sorted(each.recovered_after for each in campaign.rounds)
    classes = campaign.classes if campaign.classes.accepted else campaign.rounds[-1].classes
    return {
        "versions": {
            "assistance": __version__,
            "python": platform.python_version(),
            "postgresql": campaign.world.postgres.version,
            "rabbitmq": campaign.world.rabbit.version,
            "processors": os.cpu_count(),
        },
        "seed": campaign.plan.seed,
        "rounds": len(campaign.rounds),
        "seconds_of_faults": campaign.plan.seconds * len(campaign.rounds),
        "seconds": round(campaign.seconds, 1),
        "kills": {**kills, "our processes": process_kills(kills)},
        "kills_of_servers": {
            "postgresql": hit["kill postmaster"] + hit["kill one backend"],
            "rabbitmq": hit["kill rabbit"],
        },
        "faults": {name: {"planned": planned[name], "hit": hit[name]} for name in sorted(planned)},
        "left_out": campaign.world.left_out,
        "hit_share": round(campaign.hit_share, 4),
        "classes": vars(classes),
        "t_bound_seconds": round(campaign.plan.t_bound, 1),
        "t_seconds": {"median": _middle(times), "longest": round(times[-1], 1) if times else None},
        "ended_by_themselves": {
            name: member.own_ends for name, member in campaign.world.members.items() if member.own_ends
        },
        "violations": [str(violation) for violation in campaign.violations],
    }


def as_json(campaign: Campaign) -> str:
    return json.dumps(summary(campaign), indent=2, ensure_ascii=False) + "\n"


def as_table(campaign: Campaign) -> str:
    """For people."""
    told = summary(campaign)
    classes = told["classes"]
    lines = [f"{'fault':<24}{'planned':>9}{'hit':>7}"]
    lines += [f"{name:<24}{counts['planned']:>9}{counts['hit']:>7}" for name, counts in told["faults"].items()]
    lines += [f"{name:<24} left out: {why}" for name, why in told["left_out"].items()]
    lines.append(
        f"\naccepted {classes['accepted']}, lost {classes['lost']}, unexpected {classes['unexpected']},"
        f" recovered {classes['recovered']}, dead {classes['dead']}"
    )
    for channel, count in sorted(classes["ambiguous"].items()):
        again = classes["duplicated"].get(channel, 0)
        lines.append(f"  {channel:<18} shown again {again:>5}, ambiguous attempts {count:>6}")
    servers, took = told["kills_of_servers"], told["t_seconds"]
    lines.append(
        f"killed: {told['kills']['our processes']} of our processes, {servers['postgresql']} of PostgreSQL,"
        f" {servers['rabbitmq']} of RabbitMQ"
    )
    lines.append(
        f"all delivered after the last fault: median {took['median']} s, longest {took['longest']} s"
        f" (bound {told['t_bound_seconds']} s)"
    )
    lines.append(
        f"{told['rounds']} rounds in {told['seconds']:.0f} s, seed {told['seed']},"
        f" PostgreSQL {told['versions']['postgresql']}, RabbitMQ {told['versions']['rabbitmq']}"
    )
    for name, codes in told["ended_by_themselves"].items():
        lines.append(f"{name} ended by itself with {dict(Counter(codes))}")
    violations = told["violations"]
    lines.append(f"\n{len(violations)} violations" if violations else "\nEvery promise was kept.")
    return "\n".join([*lines, *(f"  {text}" for text in violations[:_SHOWN_VIOLATIONS])])


def _sum(campaign: Campaign, name: str) -> Counter[str]:
    return sum((getattr(each, name) for each in campaign.rounds), Counter())


def _middle(values: list[float]) -> float | None:
    return round(values[len(values) // 2], 1) if values else None
