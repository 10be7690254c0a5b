"""The Flask application: its parts put together, nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import flask

from assistance.api import health, intake, problem_pages, status
from assistance.api.door import Door
from assistance.api.observing import observe
from assistance.api.refusals import answer_every_exception


def create_app(door: Door, *, extra_blueprints: Sequence[flask.Blueprint] = ()) -> flask.Flask:
    """A WSGI application in front of `door`; the same application may serve any number of threads."""
    app = flask.Flask("assistance.api", static_folder=None)
    # A doubled slash would be answered with a redirect, which turns a client's POST into a GET.
    app.url_map.merge_slashes = False
    observe(app)
    answer_every_exception(app)
    intake.add_routes(app, door)
    status.add_routes(app, door)
    health.add_routes(app, door)
    problem_pages.add_routes(app)
    for blueprint in extra_blueprints:
        app.register_blueprint(blueprint)
    return app
