"""The console as a Flask blueprint: every page is a module with its own routes."""

from __future__ import annotations

from typing import Any

import flask

from assistance.console import (
    channels_page,
    dead_letters_page,
    failing,
    operations_page,
    overview,
    pipeline,
    requests_page,
    sign_in_page,
    signing_in,
    static_files,
    words,
)
from assistance.console.desk import Desk
from assistance.domain.operator import Role
from assistance.runtime.clock import utc_now

#: No script, style, frame or form of anybody else's, and none that stands in a page. A page of ours tells where it was
#: opened from to nobody but us; with `no-referrer` browsers would not say either whose page sent a form.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def console_blueprint(desk: Desk) -> flask.Blueprint:
    """Everything below `/console`."""
    blueprint = flask.Blueprint("console", "assistance.console", url_prefix="/console", template_folder="templates")
    signing_in.guard(blueprint, desk)
    static_files.add_routes(blueprint)
    sign_in_page.add_routes(blueprint, desk)
    overview.add_routes(blueprint, desk)
    requests_page.add_routes(blueprint, desk)
    channels_page.add_routes(blueprint, desk)
    pipeline.add_routes(blueprint, desk)
    dead_letters_page.add_routes(blueprint, desk)
    operations_page.add_routes(blueprint, desk)
    failing.add_routes(blueprint, desk)

    @blueprint.get("")
    def console() -> flask.Response:
        answer = flask.redirect("/console/")
        assert isinstance(answer, flask.Response)
        return answer

    @blueprint.after_request
    def harden(answer: flask.Response) -> flask.Response:
        answer.headers.update(_HEADERS)
        return answer

    @blueprint.context_processor
    def known_to_every_page() -> dict[str, Any]:
        return {"operator": flask.g.get("console_operator"), "Role": Role, "now": utc_now()}

    @blueprint.record_once
    def share_words(state: Any) -> None:
        environment = state.app.jinja_env
        environment.globals["static"] = static_files.static
        for word in (words.span, words.ago, words.absolute, words.iso, words.number):
            environment.filters[word.__name__] = word

    return blueprint
