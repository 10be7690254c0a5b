"""Commands for the audit log: who did what, to what, and why."""

from __future__ import annotations

from typing import Any

import click

from assistance.cli.asking import database_of, readable, show_json


@click.group()
def audit() -> None:
    """Look at who did what, to what, and why."""


def _filters(command: Any) -> Any:
    """The options that choose lines of the log."""
    options = (
        click.option("--actor", help="Only what this person did."),
        click.option("--action", help="Only this: replay, discard, cancel, reroute, resolve, pause, resume, …"),
        click.option("--kind", "subject_kind", help="Only acts on a request, delivery, dead_letter, channel, …"),
        click.option("--subject", help="Only acts on the thing with this id or name."),
        click.option("--operation", "operation_id", help="Only the acts of this operation."),
        click.option("--since", help="Only from then on: 2026-03-04, 2026-03-04T14:02Z, or 2h ago as 2h."),
        click.option("--until", help="Only before then."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@audit.command("list")
@_filters
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def list_(limit: int, as_json: bool, **filters: str | None) -> None:
    """List acts, the newest first: when, who, what, from which state to which, and why."""
    from assistance.operating.audit_reading import AuditFilter, find
    from assistance.settings import load_settings

    wanted = AuditFilter.from_query(_given(filters))
    with database_of(load_settings()) as database, database.transaction() as connection:
        rows = find(connection, wanted, limit=limit)
    if as_json:
        for row in rows:
            show_json(row._asdict())
        return
    for row in rows:
        change = f"  {readable(row.before)} → {readable(row.after)}" if row.after is not None else ""
        why = f"  because: {row.reason}" if row.reason else ""
        what = f"{row.action} {row.subject_kind} {row.subject}"
        click.echo(f"{readable(row.at)}  {row.actor} ({row.via})  {what}{change}{why}")


@audit.command("export")
@_filters
@click.option("--format", "form", type=click.Choice(["json", "csv"]), default="json", show_default=True)
def export(form: str, **filters: str | None) -> None:
    """Write all lines to the standard output: JSON, one object a line, or CSV."""
    from assistance.operating.audit_reading import AuditFilter, as_csv, as_json
    from assistance.settings import load_settings

    wanted = AuditFilter.from_query(_given(filters))
    with database_of(load_settings()) as database:
        for piece in (as_csv if form == "csv" else as_json)(database, wanted):
            click.echo(piece, nl=False)


def _given(filters: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in filters.items() if value is not None}


COMMANDS = (audit,)
