"""Commands that start the processes of an installation."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click


@contextmanager
def _stopping_is_fine() -> Iterator[None]:
    """Being asked to stop while a server is still away is no error."""
    from assistance.runtime.loop import Stopped

    with suppress(Stopped):
        yield


@contextmanager
def _beginning() -> Iterator[None]:
    """Import without looking for garbage meanwhile, and never again through what was imported: all of it stays."""
    gc.disable()
    _import_structlog()
    yield
    gc.freeze()
    gc.enable()


def _import_structlog() -> None:
    """Without `rich`, which it takes along for tracebacks of a kind that ours are not: 5 MB, and half of its time."""
    if "structlog" not in sys.modules and "rich" not in sys.modules:
        sys.modules["rich"] = None  # type: ignore[assignment]  # importing it fails then
        import structlog  # noqa: F401 (whoever logs finds it there)

        del sys.modules["rich"]


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=".assistance", help="Where everything is kept.")
@click.option("--port", type=click.IntRange(0, 65535), default=None, help="HTTP port (default 8080).")
@click.option("--public", is_flag=True, help="Listen on every address of this machine, for callers with a key.")
def up(folder: Path, port: int | None, public: bool) -> None:
    """Run everything on this machine: database, API, workers and sandbox."""
    from assistance.embedded.up import run_up

    sys.exit(run_up(folder, port=port, public=public))


@click.command(hidden=True)
def worker() -> None:
    """The worker process of `assistance up`: relay, consumers and conciliation over the in-memory broker."""
    with _beginning():
        from assistance.bootstrap.embedded import run_embedded_worker
        from assistance.runtime.signals import stop_on_signals
        from assistance.settings import load_settings

    with _stopping_is_fine():
        run_embedded_worker(load_settings(), stop_on_signals())


@click.command()
def api() -> None:
    """Serve the HTTP API."""
    import tempfile

    with _beginning():
        from assistance.settings import load_settings, share_with_children

    settings = load_settings()
    # The API runs several processes. Their metrics meet in this folder, which prometheus_client must know of before
    # it is imported anywhere.
    with tempfile.TemporaryDirectory(prefix="assistance-metrics-") as folder:
        share_with_children("PROMETHEUS_MULTIPROC_DIR", folder)
        with _beginning():
            from assistance.cli.http_server import serve

        serve(settings)


@click.command()
def relay() -> None:
    """Publish due outbox rows to the broker."""
    with _beginning():
        from assistance.bootstrap.relaying import run_relay
        from assistance.runtime.signals import stop_on_signals
        from assistance.settings import load_settings

    with _stopping_is_fine():
        run_relay(load_settings(), stop_on_signals())


@click.command()
@click.argument("channels", nargs=-1, metavar="[CHANNEL]...")
def consumer(channels: tuple[str, ...]) -> None:
    """Deliver through these channels (default: all that are configured)."""
    with _beginning():
        from assistance.bootstrap.consuming import run_consumer
        from assistance.runtime.signals import stop_on_signals
        from assistance.settings import load_settings

    with _stopping_is_fine():
        run_consumer(load_settings(), channels, stop_on_signals())


@click.command()
@click.option("--once", is_flag=True, help="One round over the database, then exit.")
def conciliation(once: bool) -> None:
    """Re-arm stragglers, drain the dead letter queue, delete what was kept long enough."""
    with _beginning():
        from assistance.bootstrap.conciliating import run_conciliation
        from assistance.runtime.signals import stop_on_signals
        from assistance.settings import load_settings

    with _stopping_is_fine():
        run_conciliation(load_settings(), stop_on_signals(), once=once)


@click.command()
@click.option("--wait", "wait_seconds", type=click.FloatRange(0), default=0.0, help="Seconds to wait for the database.")
def migrate(wait_seconds: float) -> None:
    """Bring the database to the schema of this program."""
    from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

    from assistance.domain.errors import DatabaseUnavailable
    from assistance.settings import load_settings
    from assistance.storage.migrate import migrate as run

    url = load_settings().database_url.get_secret_value()
    patiently = Retrying(
        retry=retry_if_exception_type(DatabaseUnavailable),
        stop=stop_after_delay(wait_seconds),
        wait=wait_fixed(0.5),
        reraise=True,
    )
    before, after = patiently(run, url)
    click.echo(f"The schema is at {after}." if before == after else f"Migrated from {before or 'nothing'} to {after}.")


COMMANDS = (up, worker, api, relay, consumer, conciliation, migrate)
