"""Requests with a fallback, and short words for what tests look at."""

from __future__ import annotations

from uuid import UUID

from assistance.conciliation.ledger import read_ledger
from assistance.deliveries.replay import replay
from assistance.domain.outcome import Rejected, RejectionReason, RetryLater, Unknown
from assistance.domain.route import Route, Step
from tests.builders import CHECK_AFTER, World, in_transaction

PLAN = Route(
    to=("team",),
    fallback=(Step(to=("mail",), after_seconds=120.0), Step(to=("lead",), after_seconds=600.0)),
    last_resort=("ops",),
)
#: Topic `sales` has two fallbacks and a last resort, topic `pair` a fallback for two, topic `help` none.
TOPICS = {
    "sales": PLAN,
    "pair": Route(to=("left", "right"), fallback=(Step(to=("mail",), after_seconds=120.0),)),
    "help": Route(to=("team",)),
}
LATER = RetryLater(code="busy", detail="Busy.")
REJECTED = Rejected(code="gone", detail="Nobody lives there.", reason=RejectionReason.DESTINATION)
UNKNOWN = Unknown(code="cut", detail="Cut.")


def states(world: World, request_id: UUID) -> dict[str, str]:
    return {
        row.channel: row.state
        for row in world.rows("SELECT channel, state FROM deliveries WHERE request_id = :id ORDER BY id", id=request_id)
    }


def timers(world: World) -> list[tuple[int, float]]:
    """The step that each timer begins, and how many seconds after the acceptance."""
    return [
        (row.data["step"], row.after)
        for row in world.rows(
            "SELECT t.data, extract(epoch FROM t.due_at - r.created_at)::float AS after"
            " FROM timers t JOIN requests r ON r.id = t.subject WHERE t.kind = 'fallback'"
        )
    ]


def begun(world: World, request_id: UUID) -> list[tuple[int, str, list[str]]]:
    """The steps that the timeline says have begun, with their causes and channels."""
    return [
        (row.data["step"], row.data["cause"], row.data["channels"])
        for row in world.rows(
            "SELECT data FROM events WHERE request_id = :id AND type = 'assistance.fallback' ORDER BY version",
            id=request_id,
        )
    ]


def let_time_pass(world: World, request_id: UUID, seconds: float) -> None:
    """As if the request had been accepted that many seconds earlier."""
    world.execute(
        "UPDATE requests SET created_at = created_at - make_interval(secs => :s) WHERE id = :id",
        s=seconds,
        id=request_id,
    )
    world.execute(
        "UPDATE timers SET due_at = due_at - make_interval(secs => :s) WHERE subject = :id", s=seconds, id=request_id
    )


def closes(world: World) -> bool:
    violations = in_transaction(world.database, read_ledger).violations
    assert violations == {}
    return True


def replay_letter(world: World, letter_id: int) -> None:
    in_transaction(
        world.database,
        lambda connection: replay(connection, letter_id, actor="ann", check_after=CHECK_AFTER),
    )
