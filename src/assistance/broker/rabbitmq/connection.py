"""One connection to RabbitMQ, kept by an I/O thread of its own: connects, declares the topology, notices, reconnects.

pika is touched by that thread only. Others hand work over with `post`.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import structlog
from pika.adapters.select_connection import IOLoop
from pika.exceptions import ChannelClosedByBroker, StreamLostError

from assistance.broker.contract import ConnectionState
from assistance.broker.rabbitmq.address import Address
from assistance.broker.rabbitmq.declare import declare
from assistance.broker.rabbitmq.together import GatheringConnection
from assistance.broker.topology import Topology
from assistance.runtime.clock import Backoff, monotonic

log = structlog.get_logger()

#: Seconds without a byte after which the broker is taken for dead. It sends a sign of life every 5 s; pika's own check
#: takes up to 30 s with the same heartbeat.
SILENCE_SECONDS = 12
#: A setting-up that takes longer is tried on another host.
SETUP_SECONDS = 30
#: RabbitMQ 3.10 may revive a queue that is declared within milliseconds of its deletion without telling the consumers
#: that it had, which then wait for ever.
REDECLARE_SECONDS = 1.0
#: With 20 % of jitter on top, no pause between two attempts is longer than 5 s.
_LONGEST_PAUSE_SECONDS = 4.1
#: A connection that held this long was a good one: the next attempt follows at once.
_STABLE_SECONDS = 5.0
_GOODBYE_SECONDS = 2.0
_PRECONDITION_FAILED = 406


class Owner(Protocol):
    """Who uses a connection; both are called by the I/O thread."""

    def on_topology(self) -> None:
        """The topology stands, for the first time or again; call `become_ready` when set up."""

    def on_lost(self) -> None:
        """The connection is gone, with every AMQP channel and everything unanswered on it."""


class BrokerConnection:
    """A connection that comes back by itself until it is closed."""

    # Of the attempt that is running, or the last one:
    _address: Address
    _amqp: Any
    _opened: bool
    _dropped: bool
    _ended: bool
    _redeclare_due: bool
    _ready_at: float | None

    def __init__(self, addresses: tuple[Address, ...], topology: Topology, name: str, owner: Owner) -> None:
        self._addresses = addresses
        self._topology = topology
        self._name = name
        self._owner = owner
        self._phase = ConnectionState.DISCONNECTED
        self._blocked = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._told: set[tuple[str, str]] = set()
        self._start_attempt(addresses[0])

    @property
    def state(self) -> ConnectionState:
        """Where the connection stands now. Thread-safe."""
        phase = self._phase
        return ConnectionState.BLOCKED if phase is ConnectionState.READY and self._blocked else phase

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._thread.start()

    def post(self, callback: Callable[[], None]) -> None:
        """Run `callback` in the I/O thread; it is forgotten when the connection ends first. Thread-safe."""
        self._loop.add_callback_threadsafe(callback)

    def reconnect(self, reason: str) -> None:
        """Drop this connection and build another. Thread-safe, returns at once."""
        self.post(lambda: self._drop(reason))

    def close(self) -> None:
        """Say goodbye and end, within a few seconds. Thread-safe, may be called twice."""
        self._closing.set()
        self.post(self._say_goodbye)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(2 * _GOODBYE_SECONDS)
        elif self._thread.ident is None:
            self._loop.close()
        self._phase = ConnectionState.CLOSED

    # What follows runs in the I/O thread.

    def open_channel(self, use: Callable[[Any], None]) -> None:
        """Open an AMQP channel and hand it to `use`; when the broker closes it, the whole connection is rebuilt."""

        def opened(amqp_channel: Any) -> None:
            amqp_channel.add_on_close_callback(self._on_channel_closed)
            use(amqp_channel)

        self._amqp.channel(on_open_callback=opened)

    def gathering(self) -> AbstractContextManager[None]:
        """Within this block, what is published goes out in one piece at its end."""
        gathering: AbstractContextManager[None] = self._amqp.gathering()
        return gathering

    def become_ready(self) -> None:
        """The owner has set up what it needs."""
        if self._phase is not ConnectionState.TOPOLOGY:
            return
        self._phase = ConnectionState.READY
        if self._ready_at is None:
            self._ready_at = monotonic()
            self._told.clear()
            log.info("broker.connected", host=str(self._address), connection=self._name)

    def redeclare(self) -> None:
        """Declare the topology again in a moment, because a queue turned out to be gone; `on_topology` follows."""
        if not self._redeclare_due:
            self._redeclare_due = True
            log.warning("broker.topology_missing", connection=self._name)
            self.later(REDECLARE_SECONDS, self._declare)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Run `callback` after that time, unless the connection ends first."""
        self._loop.call_later(seconds, callback)

    def _start_attempt(self, address: Address) -> None:
        self._loop = IOLoop()
        self._address = address
        self._amqp = None
        self._opened = self._dropped = self._ended = False
        self._ready_at = None
        self._reason, self._event = "", "broker.disconnected"
        self._blocked = self._redeclare_due = False
        self._quiet_seconds = self._bytes_seen = 0

    def _run(self) -> None:
        backoff = Backoff(most=_LONGEST_PAUSE_SECONDS)
        for address in itertools.cycle(self._addresses):
            if self._closing.is_set():
                break
            self._attempt(address)
            if self._ready_at is not None and monotonic() - self._ready_at > _STABLE_SECONDS:
                backoff.reset()
            if backoff.wait(self._closing):
                break
        self._loop.close()
        self._phase = ConnectionState.CLOSED

    def _attempt(self, address: Address) -> None:
        previous = self._loop
        try:
            self._start_attempt(address)
        except OSError as error:  # this process may open nothing more
            self._reason, self._ready_at = _explain(error), None
            self._tell()
            return
        previous.close()
        self._phase = ConnectionState.CONNECTING
        if self._closing.is_set():  # `close` may have spoken to the loop before this one
            return
        with contextlib.suppress(_Stuck):
            self._connect_and_serve()
        self._phase = ConnectionState.DISCONNECTED
        self._owner.on_lost()
        self._tell()

    def _connect_and_serve(self) -> None:
        try:
            self._amqp = GatheringConnection(
                self._address.parameters(self._name),
                on_open_callback=self._on_open,
                on_open_error_callback=self._on_end,
                on_close_callback=self._on_end,
                custom_ioloop=self._loop,
            )
        except Exception as error:  # for example, no certificates for TLS
            log.exception("broker.connect_failed", host=str(self._address))
            self._reason = _explain(error)
            return
        for _ in range(3):
            try:
                self._loop.start()
            except Exception as error:  # a bug in a callback: this connection is not to be trusted any more
                log.exception("broker.callback_failed", connection=self._name)
                self._drop(_explain(error))
            if self._ended:
                return
        raise _Stuck

    def _on_open(self, amqp: Any) -> None:
        self._opened = True
        amqp.add_on_connection_blocked_callback(self._on_blocked)
        amqp.add_on_connection_unblocked_callback(self._on_unblocked)
        self.later(1, self._listen)
        self.later(SETUP_SECONDS, self._check_set_up)
        self._declare()

    def _declare(self) -> None:
        if not self._amqp.is_open:
            return
        self._phase = ConnectionState.TOPOLOGY
        self._redeclare_due = False

        def use(amqp_channel: Any) -> None:
            def done() -> None:
                amqp_channel.close()
                self._owner.on_topology()

            declare(amqp_channel, self._topology, done)

        self.open_channel(use)

    def _listen(self) -> None:
        # Seconds are counted by these calls and not by a clock: after this process itself was stopped for a while,
        # a look at a clock would blame the broker.
        seen = self._amqp.bytes_received
        self._quiet_seconds = 0 if seen != self._bytes_seen else self._quiet_seconds + 1
        self._bytes_seen = seen
        if self._quiet_seconds >= SILENCE_SECONDS:
            self._drop(f"nothing heard for {SILENCE_SECONDS} s")
        else:
            self.later(1, self._listen)

    def _check_set_up(self) -> None:
        if self._ready_at is None:
            self._drop(f"not ready after {SETUP_SECONDS} s")

    def _on_blocked(self, _amqp: Any, frame: Any) -> None:
        self._blocked = True
        log.warning("broker.blocked", reason=frame.method.reason, host=str(self._address))

    def _on_unblocked(self, _amqp: Any, _frame: Any) -> None:
        self._blocked = False
        log.info("broker.unblocked", host=str(self._address))

    def _on_channel_closed(self, _amqp_channel: Any, reason: BaseException) -> None:
        if isinstance(reason, ChannelClosedByBroker):
            event = "broker.topology_refused" if reason.reply_code == _PRECONDITION_FAILED else "broker.channel_closed"
            self._drop(f"{reason.reply_code} {reason.reply_text}", event)

    def _drop(self, reason: str, event: str = "broker.disconnected") -> None:
        if self._ended or self._dropped or self._amqp is None:
            return
        self._dropped = True
        self._reason, self._event = reason, event
        # pika has no public way to end a connection without a goodbye that a dead broker never answers.
        self._amqp._terminate_stream(StreamLostError(reason))  # noqa: SLF001

    def _say_goodbye(self) -> None:
        if self._opened and not self._dropped and not self._ended and not self._amqp.is_closing:
            self.later(_GOODBYE_SECONDS, lambda: self._drop("closing took too long"))
            self._amqp.close()
        else:
            self._drop("closed")

    def _on_end(self, _amqp: Any, error: BaseException) -> None:
        self._ended = True
        if not self._dropped:
            self._reason = _explain(error)
        self._loop.stop()

    def _tell(self) -> None:
        """Log why the connection ended: each reason once in an outage, not at every attempt."""
        key = (str(self._address), self._reason)
        if self._closing.is_set() or key in self._told:
            return
        self._told.add(key)
        log.warning(self._event, reason=self._reason, host=str(self._address), connection=self._name)


class _Stuck(Exception):
    """The I/O loop returned again and again without the connection having ended."""


def _explain(error: BaseException) -> str:
    """The innermost cause in a line; pika wraps it in layers that say nothing."""
    while True:
        inner = getattr(error, "exceptions", None) or (getattr(error, "exception", None), *error.args)
        causes = [cause for cause in inner if isinstance(cause, BaseException)]
        if not causes:
            return f"{type(error).__name__}: {error}"[:300]
        error = causes[-1]
