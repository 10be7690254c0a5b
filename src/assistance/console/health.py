"""How the installation is, in one sentence: what stands in the header of every page."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from assistance.configuration import Configuration
from assistance.status.signs import MOST_COUNTED, Signs

#: Without one of each nothing is delivered for long. The worker of `assistance up` is all of them.
NEEDED_ROLES = ("relay", "consumer", "conciliation")
_ALL_OF_THEM = "worker"
#: A relay that works takes what is due within a second or two.
OUTBOX_PATIENCE_SECONDS = 30
_MOST_NAMED = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """`words` is a sentence without its full stop; `since` is when the worst of it began, if that is known."""

    words: str
    is_bad: bool
    since: datetime | None = None


def judge(signs: Signs, configuration: Configuration) -> Health:
    """What the signs mean: the worst first, and no more than two things."""
    ills = [*_missing(signs), *_outbox(signs, configuration.channels), *_channels(signs), *_late(signs, configuration)]
    ills += _letters(signs)
    if not ills:
        return Health(words="All channels deliver", is_bad=False)
    more = len(ills) - _MOST_NAMED
    words = "; ".join(ill.words for ill in ills[:_MOST_NAMED])
    return Health(
        words=f"{words}; {more} more" if more > 0 else words,
        is_bad=True,
        since=ills[0].since,
    )


def roles_missing(signs: Signs) -> list[str]:
    """The roles of which no worker gave a sign lately."""
    if _is_alive(signs, _ALL_OF_THEM):
        return []
    return [role for role in NEEDED_ROLES if not _is_alive(signs, role)]


def left_in_outbox(signs: Signs, configured: Collection[str]) -> tuple[int, datetime | None]:
    """How many due hints of configured channels were not published in good time, and since when."""
    oldest = [w.oldest for w in signs.outbox if w.channel in configured and w.oldest is not None]
    late = [at for at in oldest if (signs.now - at).total_seconds() > OUTBOX_PATIENCE_SECONDS]
    if not late:
        return 0, None
    return sum(w.due for w in signs.outbox if w.channel in configured), min(late)


def stragglers(signs: Signs, configured: Collection[str]) -> tuple[int, datetime | None]:
    """How many deliveries should have moved, and since when; those of channels that are out wait rightly."""
    out = {channel.channel for channel in signs.channels}
    late = [late for late in signs.late if late.channel in configured and late.channel not in out]
    return sum(one.number for one in late), min((one.oldest for one in late), default=None)


def counted(number: int, thing: str, things: str | None = None) -> str:
    """A number with its noun; the largest is a lower bound."""
    if number >= MOST_COUNTED:
        return f"{MOST_COUNTED:,}+ {things or thing + 's'}"
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def _is_alive(signs: Signs, role: str) -> bool:
    return role in signs.roles and signs.roles[role].alive > 0


def _missing(signs: Signs) -> list[Health]:
    missing = roles_missing(signs)
    if len(missing) == len(NEEDED_ROLES):
        last = max((role.seen_at for role in signs.roles.values()), default=None)
        return [Health(words="No worker runs", is_bad=True, since=last)]
    return [
        Health(
            words=f"No {role} runs",
            is_bad=True,
            since=signs.roles[role].seen_at if role in signs.roles else None,
        )
        for role in missing
    ]


def _outbox(signs: Signs, configured: Collection[str]) -> list[Health]:
    number, since = left_in_outbox(signs, configured)
    return [Health(words=f"{counted(number, 'hint')} not published", is_bad=True, since=since)] if number else []


def _channels(signs: Signs) -> list[Health]:
    found = []
    for channel in sorted(signs.channels, key=lambda one: one.since):
        word = "paused" if channel.paused_at is not None else f"breaker {channel.breaker.replace('_', '-')}"
        found.append(Health(words=f"{channel.channel}: {word}", is_bad=True, since=channel.since))
    return found


def _late(signs: Signs, configuration: Configuration) -> list[Health]:
    number, since = stragglers(signs, configuration.channels)
    words = counted(number, "delivery", "deliveries")
    return [Health(words=f"{words} stuck", is_bad=True, since=since)] if number else []


def _letters(signs: Signs) -> list[Health]:
    if not signs.letters:
        return []
    words = f"{counted(signs.letters, 'dead letter')} in the last hour"
    return [Health(words=words, is_bad=True, since=signs.letters_since)]
