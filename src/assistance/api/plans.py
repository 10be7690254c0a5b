"""`GET /topics` and `?dry_run=true`: who would be told, without telling anybody."""

from __future__ import annotations

from typing import Any, Literal

import flask
from pydantic import BaseModel, Field

from assistance.api.answers import json_answer
from assistance.api.callers import needs
from assistance.api.door import Door
from assistance.api.operations import Answer, Operation
from assistance.domain.caller import Scope
from assistance.domain.request import Submission
from assistance.domain.route import Route
from assistance.runtime.clock import Deadline


def add_routes(app: flask.Flask, door: Door) -> None:
    """Serve the topics."""

    @app.get("/topics")
    def topics() -> flask.Response:
        needs(Scope.SUBMIT)
        routes = door.reading.routes()
        return json_answer({"data": [shown_plan(topic, routes[topic]) for topic in sorted(routes)]})


def dry_run_answer(door: Door, submission: Submission, client: str) -> flask.Response:
    """What would become of a submission; raises what its refusal would raise."""
    plan = door.reading.plan(submission, Deadline.after(door.deadline_seconds), client=client)
    return json_answer({**shown_plan(plan.topic, plan.route), "would": "accept"})


def shown_plan(topic: str, route: Route) -> dict[str, Any]:
    """Who is told of a topic, in steps: names of channels, never their destinations."""
    steps = [{"to": list(step.to), "after_seconds": step.after_seconds} for step in route.steps]
    return {"topic": topic, "steps": [{**steps[0], "after_seconds": 0.0}, *steps[1:]]}


class StepAnswer(BaseModel):
    """Channels that are told together."""

    to: list[str]
    after_seconds: float | None = Field(
        description="How long after the acceptance, unless the steps before ended dead earlier; null: only when all of "
        "them ended dead."
    )


class TopicAnswer(BaseModel):
    """What a request may be about, and who is told then."""

    topic: str
    steps: list[StepAnswer]


class TopicsAnswer(BaseModel):
    """Every topic."""

    data: list[TopicAnswer]


class PlanAnswer(TopicAnswer):
    """What would happen."""

    would: Literal["accept"]


_STEPS = [{"to": ["sales-team"], "after_seconds": 0.0}, {"to": ["sales-mail"], "after_seconds": 120.0}]
#: What a dry run is answered with.
PLAN_EXAMPLE = {"topic": "sales", "steps": _STEPS, "would": "accept"}
OPERATIONS = (
    Operation(
        method="GET",
        path="/topics",
        name="topics",
        group="Asking",
        scope=Scope.SUBMIT,
        summary="See which topics there are, and who is told",
        python='for topic in client.topics():\n    print(topic["topic"])',
        answers=(
            Answer(
                http_status=200,
                description="The topics.",
                model=TopicsAnswer,
                example={"data": [{"topic": "sales", "steps": _STEPS}]},
            ),
        ),
    ),
)
