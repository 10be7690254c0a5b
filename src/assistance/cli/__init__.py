"""The command `assistance`: one door for processes and for the person on call.

Exit codes: 0 fine, 1 problems were found, 2 wrong usage or settings. Imports stay inside the commands, so that
`assistance --help` answers at once.
"""

from __future__ import annotations

import sys

import click

from assistance import __version__
from assistance.cli import (
    audit,
    calling,
    channels,
    clients,
    console,
    customers,
    dead_letters,
    deliveries,
    drill,
    looking,
    operations,
    processes,
    stats,
    unknown,
)
from assistance.domain.errors import AssistanceError, SchemaMismatch, SettingsError
from assistance.search.mistakes import FilterMistake


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """The one place between a bot and the people behind it."""


for module in (
    processes,
    calling,
    looking,
    channels,
    clients,
    console,
    customers,
    dead_letters,
    deliveries,
    unknown,
    operations,
    audit,
    drill,
    stats,
):
    for command in module.COMMANDS:
        cli.add_command(command)


def main() -> None:
    """Run the command line."""
    run()


def run(*words: str) -> None:
    """Run a command with what stands behind it on the command line.

    A mistake of the user ends in one sentence, never in a traceback.
    """
    try:
        cli(args=[*words, *sys.argv[1:]])
    except AssistanceError as error:
        click.echo(str(error), err=True)
        sys.exit(2 if isinstance(error, SettingsError | SchemaMismatch | FilterMistake) else 1)
