"""`python -m assistance.embedded.sandbox`: the sandbox as a process, as `assistance up` and docker-compose run it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from assistance.domain.errors import SettingsError
from assistance.embedded.sandbox.server import serve_sandbox
from assistance.runtime.logs import configure_logs
from assistance.runtime.signals import stop_on_signals


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--slack-port", type=click.IntRange(0, 65535), default=9001, show_default=True, help="0 = a free one.")
@click.option("--smtp-port", type=click.IntRange(0, 65535), default=9002, show_default=True, help="0 = a free one.")
@click.option("--folder", type=click.Path(path_type=Path), required=True, help="Where everything received is kept.")
@click.option("--log-format", type=click.Choice(["json", "console"]), default="json", show_default=True)
def main(host: str, slack_port: int, smtp_port: int, folder: Path, log_format: str) -> None:
    """A local Slack and mail server that shows what it received at /messages."""
    configure_logs("sandbox", fmt=log_format)
    try:
        serve_sandbox(host, slack_port, smtp_port, folder, stop_on_signals())
    except SettingsError as error:
        click.echo(str(error), err=True)
        sys.exit(2)


main()
