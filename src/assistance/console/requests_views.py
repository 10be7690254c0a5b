"""Saving and forgetting views of the list of requests."""

from __future__ import annotations

from urllib.parse import urlencode

import flask
from sqlalchemy import Connection

from assistance.console.desk import Desk
from assistance.console.requests_query import LIST, filter_query, is_oldest_first, wanted_filter, with_query
from assistance.console.saved_views import View, delete_view, save_view
from assistance.console.showing import Refused, go_to
from assistance.console.signing_in import actor, needs, the_operator
from assistance.domain.operator import Role
from assistance.operating.audit import record

_PAGE = "requests"


def add_routes(blueprint: flask.Blueprint, desk: Desk) -> None:
    """Everybody keeps views of their own; what everybody sees is for operators to change, and is in the audit log."""

    @blueprint.post("/requests/views")
    def save_requests_view() -> flask.Response:
        query = wanted_filter().to_query() | ({"order": "oldest"} if is_oldest_first() else {})
        name, is_shared = flask.request.form.get("name", ""), "shared" in flask.request.form
        who = needs(Role.OPERATOR) if is_shared else the_operator()

        def work(connection: Connection) -> None:
            view_id = save_view(connection, _PAGE, None if is_shared else who.name, name, urlencode(query))
            if is_shared:
                record(connection, actor(), "save", "view", view_id, after={"page": _PAGE})

        desk.database.run(work, desk.deadline())
        return go_to(with_query(LIST, filter_query()), "The view is saved.")

    @blueprint.post("/requests/views/<int:view_id>/delete")
    def delete_requests_view(view_id: int) -> flask.Response:
        who = the_operator()
        may_delete_shared = who.role.holds(Role.OPERATOR)

        def work(connection: Connection) -> View | None:
            gone = delete_view(connection, _PAGE, view_id, owner=who.name, may_delete_shared=may_delete_shared)
            if gone is not None and gone.owner is None:
                record(connection, actor(), "delete", "view", view_id, before={"page": _PAGE})
            return gone

        gone = desk.database.run(work, desk.deadline()) if view_id < 2**63 else None
        if gone is None:
            raise Refused("There is no such view, or it is not yours to delete. Nothing was done.", 404, LIST)
        return go_to(with_query(LIST, filter_query()), "The view is deleted.")
