"""Everything the sandbox received: a log of JSON lines on disk, and the newest part of it in memory.

A record is returned only after its line was fsynced. A line that a crash tore in two was never answered with a yes, so
it is cut off at the next start.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assistance.domain.errors import SettingsError
from assistance.runtime.clock import Deadline, sleep, unix_time, utc_now

_LOG_NAME = "received.jsonl"
_KEPT_RECORDS = 10_000
_RETRY_SECONDS = 0.05
_KEPT_BYTES = 64 * 1024 * 1024

SLACK = "slack"
SLACK_UPDATE = "slack_update"
MAIL = "mail"
CALLBACK = "callback"


class Store:
    """The sandbox's memory; thread-safe. One process at a time may hold a folder.

    A last holder who is just leaving is waited for, `patience_seconds` long. Raises `SettingsError`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        patience_seconds: float = 0,
        kept_records: int = _KEPT_RECORDS,
        kept_bytes: int = _KEPT_BYTES,
    ) -> None:
        self._kept_records = kept_records
        self._kept_bytes = kept_bytes
        self._lock = threading.Lock()
        self._records: OrderedDict[tuple[str, str], tuple[dict[str, Any], int]] = OrderedDict()
        self._bytes = 0
        self._last_microseconds = 0
        self._file = _open_locked(folder, Deadline.after(patience_seconds))
        self._end = self._load()

    def add_slack(self, conversation: str, message: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a message of a conversation; returns it with its `ts`, unique and increasing.

        Raises `OSError` when the disk refuses.
        """
        with self._lock:
            return self._append({"kind": SLACK, "conversation": conversation, **message})

    def update_slack(self, conversation: str, ts: str, changes: Mapping[str, Any]) -> dict[str, Any] | None:
        """Change a message that is still remembered; none when it is not. Raises `OSError` when the disk refuses."""
        with self._lock:
            found = self._records.get((SLACK, ts))
            if found is None or found[0]["conversation"] != conversation:
                return None
            self._append({"kind": SLACK_UPDATE, "conversation": conversation, "target": ts, "changes": dict(changes)})
            return self._records[SLACK, ts][0]

    def add_mail(self, mail: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a mail. Raises `OSError` when the disk refuses."""
        with self._lock:
            return self._append({"kind": MAIL, **mail})

    def add_callback(self, callback: Mapping[str, Any]) -> dict[str, Any]:
        """Keep what a bot's server would have got. Raises `OSError` when the disk refuses."""
        with self._lock:
            return self._append({"kind": CALLBACK, **callback})

    def conversation(self, name: str) -> list[dict[str, Any]]:
        """The remembered messages of a conversation, newest first."""
        with self._lock:
            return [
                record
                for record, _ in reversed(self._records.values())
                if record["kind"] == SLACK and record["conversation"] == name
            ]

    def newest(self, limit: int) -> dict[str, Any]:
        """The newest `limit` mails and callbacks, and as many messages of each conversation, newest first."""
        conversations: dict[str, list[dict[str, Any]]] = {}
        others: dict[str, list[dict[str, Any]]] = {MAIL: [], CALLBACK: []}
        with self._lock:
            records = [record for record, _ in reversed(self._records.values())]
        for record in records:
            kept = others.get(record["kind"])
            if kept is None:
                kept = conversations.setdefault(record["conversation"], [])
            if len(kept) < limit:
                kept.append(record)
        return {"slack": conversations, "mails": others[MAIL], "callbacks": others[CALLBACK]}

    def close(self) -> None:
        """Give the folder back; may be called twice."""
        with self._lock:
            self._file.close()

    def _append(self, record: dict[str, Any]) -> dict[str, Any]:
        microseconds = max(round(unix_time() * 1_000_000), self._last_microseconds + 1)
        record = {"ts": _ts(microseconds), "at": utc_now().isoformat(timespec="milliseconds"), **record}
        line = json.dumps(record).encode() + b"\n"
        self._write(line)
        self._last_microseconds = microseconds
        self._remember(record, len(line))
        return record

    def _write(self, line: bytes) -> None:
        try:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError:
            # Half a line must not swallow the next one; nobody was told yes, so it may go.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.fileno(), self._end)
            raise
        self._end += len(line)

    def _remember(self, record: dict[str, Any], size: int) -> None:
        if record["kind"] == SLACK_UPDATE:
            found = self._records.get((SLACK, record["target"]))
            if found is not None:
                # A new object, because readers may hold the old one outside the lock.
                changed = {**found[0], **record["changes"], "edited_at": record["at"]}
                self._records[SLACK, record["target"]] = (changed, found[1] + size)
                self._bytes += size
        else:
            self._records[record["kind"], record["ts"]] = (record, size)
            self._bytes += size
        while len(self._records) > self._kept_records or (self._bytes > self._kept_bytes and len(self._records) > 1):
            _, (_, dropped) = self._records.popitem(last=False)
            self._bytes -= dropped

    def _load(self) -> int:
        end = 0
        with open(self._file.fileno(), "rb", closefd=False) as log:
            log.seek(0)
            for line in log:
                if not line.endswith(b"\n"):
                    break
                end += len(line)
                self._restore(line)
        os.ftruncate(self._file.fileno(), end)
        return end

    def _restore(self, line: bytes) -> None:
        # A whole line that cannot be read comes from a disk that lost power; the others are still worth showing.
        with contextlib.suppress(ValueError, KeyError, TypeError):
            record = json.loads(line)
            self._last_microseconds = max(self._last_microseconds, round(float(record["ts"]) * 1_000_000))
            self._remember(record, len(line))


def _ts(microseconds: int) -> str:
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"{seconds}.{rest:06d}"


def _open_locked(folder: Path, deadline: Deadline) -> Any:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Unbuffered and appending: one `write` call a record, and never over an older one.
        file = (folder / _LOG_NAME).open("ab+", buffering=0)
    except OSError as error:
        raise SettingsError(f"The sandbox cannot write to its folder {folder} ({error.strerror}).") from error
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if deadline.has_passed:
                file.close()
                raise SettingsError(f"Another sandbox is using the folder {folder}.") from error
            sleep(_RETRY_SECONDS)
        else:
            return file
