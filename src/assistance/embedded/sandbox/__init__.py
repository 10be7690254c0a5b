"""A local stand-in for Slack and for a mail server, so that a request can be seen arriving without any account.

`server.Sandbox` answers Slack's Web API and SMTP, takes callbacks as a bot's server would, and shows everything it
received at `/messages`. It says yes only to
what is on disk (`store`), because the people and the tests that watch it take its answers for the truth.
"""

from assistance.embedded.sandbox.server import Sandbox, serve_sandbox

__all__ = ["Sandbox", "serve_sandbox"]
