"""The Flask application: its parts put together, nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import flask

from assistance.api import (
    batch,
    customers,
    docs_page,
    events,
    health,
    ingest,
    intake,
    lifecycle,
    listing,
    openapi,
    plans,
    problem_pages,
    stats,
    status,
    webhooks,
)
from assistance.api.callers import identify_callers
from assistance.api.door import Door
from assistance.api.limits import limit_clients
from assistance.api.observing import observe
from assistance.api.refusals import answer_every_exception
from assistance.api.traced import trace_calls


def create_app(door: Door, *, extra_blueprints: Sequence[flask.Blueprint] = ()) -> flask.Flask:
    """A WSGI application in front of `door`; the same application may serve any number of threads."""
    app = flask.Flask("assistance.api", static_folder=None)
    # A doubled slash would be answered with a redirect, which turns a client's POST into a GET.
    app.url_map.merge_slashes = False
    observe(app)
    trace_calls(app)
    answer_every_exception(app)
    identify_callers(app, door)
    limit_clients(app, door)
    intake.add_routes(app, door)
    batch.add_routes(app, door)
    plans.add_routes(app, door)
    status.add_routes(app, door)
    lifecycle.add_routes(app, door)
    webhooks.add_routes(app, door)
    events.add_routes(app, door)
    listing.add_routes(app, door)
    customers.add_routes(app, door)
    stats.add_routes(app, door)
    ingest.add_routes(app, door)
    health.add_routes(app, door)
    problem_pages.add_routes(app)
    openapi.add_routes(app, door)
    docs_page.add_routes(app, door)
    for blueprint in extra_blueprints:
        app.register_blueprint(blueprint)
    return app
