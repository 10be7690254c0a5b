"""Many messages in one write: pika hands each of the three frames of a message to the kernel on its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pika import SelectConnection


class GatheringConnection(SelectConnection):  # type: ignore[misc]  # pika has no types
    """A connection that can send what is published within a block as one piece; used by its I/O thread only."""

    _gathered: list[bytes] | None = None

    @contextlib.contextmanager
    def gathering(self) -> Iterator[None]:
        """Keep what is sent within the block, and send it at its end, also when the block raises."""
        gathered = self._gathered = []
        try:
            yield
        finally:
            self._gathered = None
            if gathered:
                super()._adapter_emit_data(b"".join(gathered))

    def _adapter_emit_data(self, data: bytes) -> None:
        """Where pika's connection hands bytes to the transport of its adapter."""
        if self._gathered is None:
            super()._adapter_emit_data(data)
        else:
            self._gathered.append(data)
