"""A console over a real database, and people who use it as a browser does, without a script."""

from __future__ import annotations

import re
from html import unescape
from typing import Any
from weakref import WeakKeyDictionary

from flask import Flask
from flask.testing import FlaskClient
from jinja2.bccache import Bucket, BytecodeCache
from werkzeug.test import TestResponse

from assistance.api.app import create_app
from assistance.clients import store
from assistance.clients.authenticate import Authenticator
from assistance.configuration import Configuration
from assistance.console.blueprint import console_blueprint
from assistance.console.desk import Desk
from assistance.domain.caller import Scope
from assistance.domain.operator import Role
from assistance.operating.acts import Acts
from assistance.storage.database import Database
from tests.builders import CHECK_AFTER, World
from tests.memory_door import MemoryDoor

_SCOPES = {Role.VIEWER: Scope.VIEW, Role.OPERATOR: Scope.OPERATE, Role.ADMIN: Scope.ADMIN}
#: One process serves everybody who signs in to a world.
_APPS: WeakKeyDictionary[World, dict[bool, Flask]] = WeakKeyDictionary()
_TOKEN = re.compile(r'name="csrf" value="([^"]*)"')
_MARKUP = re.compile(r"<[^>]+>")


def desk_of(world: World, *, hide_text: bool = False, database: Database | None = None) -> Desk:
    """The desk of a world; messages of signed sources are none of its business."""

    def no_source(letter_id: int, actor: str, also: Any) -> None:
        raise AssertionError("this world has no signed source")

    found = database or world.database
    configuration: Configuration = world.configuration
    return Desk(
        database=found,
        configuration=lambda: configuration,
        acts=Acts(found, lambda: configuration, check_after_seconds=CHECK_AFTER, replay_of_source=no_source),
        authenticate=Authenticator(found, anonymous_allowed=True),
        hide_text=hide_text,
        deadline_seconds=4.5,
    )


class _Compiled(BytecodeCache):
    """Templates that an application of this process compiled before: that takes longer than most tests."""

    def __init__(self) -> None:
        self._code: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if (code := self._code.get(f"{bucket.key}.{bucket.checksum}")) is not None:
            bucket.bytecode_from_string(code)

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._code[f"{bucket.key}.{bucket.checksum}"] = bucket.bytecode_to_string()


_COMPILED = _Compiled()


def console_app(desk: Desk) -> Flask:
    """The API with its console."""
    app = create_app(MemoryDoor().door(), extra_blueprints=[console_blueprint(desk)])
    app.jinja_env.bytecode_cache = _COMPILED
    return app


class Browser:
    """Somebody at the console. Cookies are kept; each form is sent with the token of the page it stands on."""

    def __init__(self, app: Flask, *, address: str = "127.0.0.1") -> None:
        self.client: FlaskClient = app.test_client()
        self.address = address

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.client.get(path, environ_overrides={"REMOTE_ADDR": self.address}, **options)

    def post(self, path: str, form: dict[str, Any] | None = None, **options: Any) -> TestResponse:
        """Send a form as it is."""
        return self.client.post(path, data=form or {}, environ_overrides={"REMOTE_ADDR": self.address}, **options)

    def act(self, path: str, form: dict[str, Any] | None = None, *, page: str = "/console/operations") -> TestResponse:
        """Send a form with the token of a page."""
        return self.post(path, {"csrf": self.token_on(page), **(form or {})})

    def token_on(self, page: str) -> str:
        match = _TOKEN.search(self.get(page).get_data(as_text=True))
        assert match is not None, f"no form on {page}"
        return match[1]

    def sign_in(self, key: str, *, wanted: str = "") -> TestResponse:
        return self.post("/console/sign-in", {"csrf": self.token_on("/console/sign-in"), "key": key, "next": wanted})


def signed_in(world: World, role: Role = Role.OPERATOR, *, name: str | None = None, hide_text: bool = False) -> Browser:
    """Somebody with this role who has just signed in with a key of their own."""
    key = key_for(world, role, name=name)
    app = _APPS.setdefault(world, {})
    if hide_text not in app:
        app[hide_text] = console_app(desk_of(world, hide_text=hide_text))
    browser = Browser(app[hide_text])
    answer = browser.sign_in(key)
    assert answer.status_code == 303, text_of(answer)
    return browser


def key_for(world: World, role: Role, *, name: str | None = None) -> str:
    """A new client with a key for this role."""
    return world.database.run(
        lambda connection: store.create(connection, name or f"the-{role}", scopes=[_SCOPES[role]])
    ).text


def text_of(answer: TestResponse) -> str:
    """What a page says, without its markup, on one line."""
    return " ".join(unescape(_MARKUP.sub(" ", answer.get_data(as_text=True))).split())
