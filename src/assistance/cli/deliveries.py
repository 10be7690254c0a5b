"""Commands for deliveries: reroute."""

from __future__ import annotations

import click

from assistance.cli.asking import actor, acts_on, because, database_of, operator, show_json


@click.group()
def deliveries() -> None:
    """Act on deliveries."""


@deliveries.command()
@click.option("--from", "source", required=True, metavar="CHANNEL", help="Whose backlog; it may have left the file.")
@click.option("--to", "target", required=True, metavar="CHANNEL", help="Who gets it; a channel of the file.")
@click.option("--topic", help="Only requests on this topic.")
@click.option("--limit", type=click.IntRange(1), help="At most so many requests.")
@because
@click.option("--dry-run", is_flag=True, help="Say how many, change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of sentences.")
def reroute(
    source: str,
    target: str,
    topic: str | None,
    limit: int | None,
    because: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Move what waits for one channel to another.

    What is being sent, and what may have arrived already, stays where it is.
    """
    from assistance.bootstrap.parts import configuration_of
    from assistance.configuration import fold_topic
    from assistance.deliveries.reroute import Reroute, survey
    from assistance.domain.delivery import CALLBACKS
    from assistance.domain.errors import SettingsError
    from assistance.settings import load_settings

    settings = load_settings()
    if target not in configuration_of(settings).channels or target == CALLBACKS:
        raise SettingsError(f"Channel {target!r} is not in the configuration file.")
    if source == target:
        raise click.UsageError("--from and --to name the same channel.")
    order = Reroute(
        source=source,
        target=target,
        topic=fold_topic(topic) if topic else None,
        actor=operator(),
        check_after=settings.check_after_seconds,
    )
    with database_of(settings) as database:
        if dry_run or not yes:
            found = survey(database, order)
        if not dry_run and not yes:
            waiting = found.moved + found.there_already
            click.confirm(f"Move {waiting} deliveries from {source} to {target}?", abort=True, err=True)
        if not dry_run:
            found = acts_on(settings, database).reroute_backlog(order, actor(), reason=because, limit=limit)
    if as_json:
        show_json({"moved": found.moved, "there_already": found.there_already, "left": dict(found.left)})
        return
    would = "would be" if dry_run else "were"
    click.echo(f"{found.moved} deliveries {would} moved from {source} to {target}.")
    if found.there_already:
        click.echo(f"{found.there_already} {would} cancelled on {source} only: {target} has their requests already.")
    for reason, count in found.left.items():
        click.echo(f"{count} left on {source}: {reason}.")


COMMANDS = (deliveries,)
