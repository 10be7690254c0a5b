"""Connections for channel types: every step ends by the deadline, and a caller knows whether bytes may have gone out.

`NotConnected` is the only error of these functions and always means that nothing was sent.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

from assistance.runtime.clock import Deadline
from assistance.runtime.watchdog import watchdog

#: Where errors of sockets and of TLS say what it was, the most telling first.
_TELLING = ("verify_message", "strerror", "reason")
#: What `socket.getaddrinfo` answers.
Addresses = list[tuple[Any, ...]]
#: Finds the addresses of a host and port by a deadline; raises `NotConnected`.
Resolve = Callable[[str, int, Deadline], Addresses]


class NotConnected(Exception):
    """No connection (or no encrypted one) came about, so nothing was sent; `detail` holds no secret."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def explain(error: BaseException) -> str:
    """What went wrong, in a few words that never quote data."""
    text = next(filter(None, (getattr(error, name, None) for name in _TELLING)), None)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def resolve(host: str, port: int, deadline: Deadline) -> Addresses:
    """The addresses of a host, asked for in a thread of its own: nothing else can end a look-up that hangs.

    Raises `NotConnected`.
    """
    answers: queue.SimpleQueue[Addresses | Exception] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            answers.put(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    with contextlib.suppress(OSError, UnicodeError):
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
    threading.Thread(target=look_up, name="look-up", daemon=True).start()
    try:
        answer = answers.get(timeout=deadline.remaining())
    except queue.Empty:
        raise NotConnected("dns_timeout", f"the name {host} was not resolved in time") from None
    if isinstance(answer, Exception):
        raise NotConnected("dns_failed", f"{host}: {explain(answer)}") from answer
    return answer


def connect(host: str, port: int, deadline: Deadline, find: Resolve = resolve) -> socket.socket:
    """A TCP connection to the first of the addresses found that answers; the name is not looked up a second time.

    Raises `NotConnected` when the name is unknown, nobody listens, or the deadline passes.
    """
    addresses = find(host, port, deadline)
    problem = NotConnected("connect_failed", f"{host} has no address")
    for position, (family, kind, protocol, _, address) in enumerate(addresses):
        # An address that swallows packets may not use up the time that the next one needs.
        patience = deadline.remaining() / (len(addresses) - position)
        if patience <= 0:
            raise NotConnected("connect_timeout", f"no time was left to connect to {host}:{port}")
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:  # this process may open nothing more
            raise NotConnected("no_descriptor", explain(error)) from error
        try:
            sock.settimeout(patience)
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wait_until(sock, deadline)
        except TimeoutError:
            sock.close()
            problem = NotConnected("connect_timeout", f"{host}:{port} did not answer")
        except OSError as error:
            sock.close()
            problem = NotConnected("connect_failed", f"{host}:{port}: {explain(error)}")
        else:
            return sock
    raise problem


def secure(sock: socket.socket, host: str) -> ssl.SSLSocket:
    """The connection, encrypted, with the server's certificate checked against the name.

    Raises `NotConnected`; the socket is then closed.
    """
    try:
        # With a handshake of its own: a connection that was lost meanwhile would be handed back as if it were secured.
        secured = tls_context().wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
        try:
            secured.do_handshake()
        except BaseException:
            secured.close()
            raise
    except (OSError, ValueError) as error:
        sock.close()
        raise NotConnected("tls_failed", f"{host}: {explain(error)}") from error
    return secured


@functools.cache
def tls_context() -> ssl.SSLContext:
    """Certificates and names are always verified; the system's authorities are read once, at the first use."""
    return ssl.create_default_context()


@contextlib.contextmanager
def ended_at(sock: socket.socket, deadline: Deadline) -> Iterator[None]:
    """Shut the connection down at the deadline, which ends any call blocked on it, also one fed a byte at a time.

    Raises `NotConnected` when that cannot be arranged; nothing may have been sent before.
    """
    # The duplicate stays open for the whole block: the watchdog can never meet a descriptor that was closed meanwhile
    # and given to somebody else. It also survives the hand-over of the descriptor to a TLS socket.
    try:
        duplicate = _duplicate(sock)
    except OSError as error:
        raise NotConnected("no_descriptor", explain(error)) from error
    with duplicate, watchdog.at(deadline, lambda: duplicate.shutdown(socket.SHUT_RDWR)):
        yield


def peer_has_left(sock: socket.socket) -> bool:
    """Whether the other side closed or reset the connection, or nobody can tell; reads nothing."""
    try:
        with _duplicate(sock) as duplicate:
            return duplicate.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except (BlockingIOError, InterruptedError):
        return False
    except OSError:
        return True


def wait_until(sock: socket.socket, deadline: Deadline) -> None:
    """Let no single read or write on it last longer than until the deadline."""
    sock.settimeout(max(deadline.remaining(), 0.001))


def is_quiet(sock: socket.socket) -> bool:
    """Whether nothing came on an idle connection: no end, no error, and nothing that nobody asked for."""
    if isinstance(sock, ssl.SSLSocket) and sock.pending():
        return False
    try:
        poll = select.poll()
        poll.register(sock, select.POLLIN | select.POLLERR | select.POLLHUP)
        return not poll.poll(0)
    except (OSError, ValueError):  # it was closed here
        return False


def _duplicate(sock: socket.socket) -> socket.socket:
    """Another descriptor of the same connection, of its bare bytes where it is encrypted."""
    return socket.socket(fileno=socket.dup(sock.fileno()))
