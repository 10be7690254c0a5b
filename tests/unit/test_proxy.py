"""The proxy's toxics, each seen from a client and a server on either side."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.proxy import (
    Bandwidth,
    Direction,
    DropAfter,
    Latency,
    LimitData,
    Proxy,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
)


class Echo:
    """Sends back what it receives, and remembers it."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.heard: list[bytes] = []
        self.ends: list[str] = []
        self.ended = threading.Event()
        self.open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"tcp://user:secret@127.0.0.1:{self.listener.getsockname()[1]}/path"

    def close(self) -> None:
        for one in (self.listener, *self.open):
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                one, _ = self.listener.accept()
                self.open.append(one)
                threading.Thread(target=self._serve, args=(one,), daemon=True).start()

    def _serve(self, one: socket.socket) -> None:
        end = "end"
        try:
            while data := one.recv(65536):
                self.heard.append(data)
                one.sendall(data)
        except ConnectionResetError:
            end = "reset"
        except OSError:
            end = "error"
        one.close()
        self.ends.append(end)
        self.ended.set()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo.url, seed=7) as made:
        yield made


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as one:
        yield one


def receive(client: socket.socket, number: int) -> bytes:
    """Exactly that many bytes, or what came before the end."""
    received = b""
    while len(received) < number and (data := client.recv(65536)):
        received += data
    return received


def seconds_of(client: socket.socket, message: bytes) -> float:
    """How long a message takes there and back."""
    began = time.monotonic()
    client.sendall(message)
    assert receive(client, len(message)) == message
    return time.monotonic() - began


def test_without_toxics_everything_goes_through_and_the_url_differs_in_its_port_only(
    echo: Echo, proxy: Proxy, client: socket.socket
) -> None:
    assert proxy.url == f"tcp://user:secret@127.0.0.1:{proxy.port}/path"
    message = bytes(range(256)) * 4096
    threading.Thread(target=client.sendall, args=(message,), daemon=True).start()
    assert receive(client, len(message)) == message
    client.close()
    assert echo.ended.wait(5)
    assert (echo.ends, proxy.hits) == (["end"], 0)


def test_a_server_that_is_away_ends_the_clients_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Proxy(f"tcp://127.0.0.1:{port}") as proxy:
        with pytest.raises(ConnectionResetError):
            with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client:
                client.recv(1)


@pytest.mark.parametrize(("direction", "least"), [("up", 0.2), ("down", 0.2), ("both", 0.4)])
def test_latency_delays_in_the_direction_that_is_asked_for(
    proxy: Proxy, client: socket.socket, direction: Direction, least: float
) -> None:
    proxy.add(Latency(200), direction)
    assert least <= seconds_of(client, b"slow") < least + 1
    proxy.heal()
    assert seconds_of(client, b"quick") < 0.2
    assert proxy.hits


def test_latency_keeps_the_order_and_does_not_add_up(proxy: Proxy, client: socket.socket) -> None:
    proxy.add(Latency(150, jitter=100), "up")
    began = time.monotonic()
    for number in range(20):
        client.sendall(b"%02d" % number)
        time.sleep(0.01)
    assert receive(client, 40) == b"".join(b"%02d" % number for number in range(20))
    assert 0.2 < time.monotonic() - began < 2


def test_the_same_seed_makes_the_same_deviations(echo: Echo) -> None:
    with Proxy(echo.url, seed=3) as one, Proxy(echo.url, seed=3) as other, Proxy(echo.url, seed=4) as third:
        drawn = [[each.random.random() for _ in range(3)] for each in (one, other, third)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_healing_lets_through_at_once_what_latency_holds_back(proxy: Proxy, client: socket.socket) -> None:
    proxy.add(Latency(60_000))
    client.sendall(b"late")
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.recv(1)
    proxy.heal()
    client.settimeout(5)
    assert receive(client, 4) == b"late"


def test_bandwidth_limits_the_rate(proxy: Proxy, client: socket.socket) -> None:
    proxy.add(Bandwidth(40), "up")
    assert 0.3 < seconds_of(client, b"x" * 16_000) < 2
    proxy.remove(Bandwidth(40))
    assert seconds_of(client, b"x" * 16_000) < 0.2


def test_a_slicer_cuts_the_stream_into_pieces(echo: Echo, proxy: Proxy, client: socket.socket) -> None:
    proxy.add(Slicer(size=1, pause_us=5_000), "up")
    assert seconds_of(client, b"0123456789") >= 0.04
    assert b"".join(echo.heard) == b"0123456789"
    assert len(echo.heard) > 5


@pytest.mark.parametrize("direction", ["up", "down"])
def test_exactly_as_many_bytes_as_allowed_go_through_before_the_end(
    echo: Echo, proxy: Proxy, client: socket.socket, direction: Direction
) -> None:
    proxy.add(LimitData(10), direction)
    client.sendall(b"123456")
    assert receive(client, 6) == b"123456"
    client.sendall(b"789abcdef")
    came = receive(client, 100)
    assert echo.ended.wait(5)
    assert (b"".join(echo.heard) if direction == "up" else b"123456" + came)[:20] == b"123456789a"
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as another:
        assert seconds_of(another, b"fresh") < 5  # the limit counts per connection


def test_a_reset_reaches_both_sides_as_a_reset(echo: Echo, proxy: Proxy, client: socket.socket) -> None:
    seconds_of(client, b"before")
    proxy.add(ResetPeer(after_ms=100))
    began = time.monotonic()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert time.monotonic() - began > 0.05
    assert echo.ended.wait(5)
    assert echo.ends == ["reset"]


def test_a_reset_that_is_healed_in_time_does_not_happen(proxy: Proxy, client: socket.socket) -> None:
    proxy.add(ResetPeer(after_ms=100))
    proxy.heal()
    time.sleep(0.2)
    seconds_of(client, b"alive")
    assert proxy.hits == 0


def test_a_black_hole_swallows_nothing_and_closes_nothing(echo: Echo, proxy: Proxy, client: socket.socket) -> None:
    seconds_of(client, b"before")
    proxy.add(Timeout())
    client.sendall(b"held")
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.recv(1)
    assert echo.heard == [b"before"]
    proxy.heal()
    client.settimeout(5)
    assert receive(client, 4) == b"held"


def test_a_time_out_ends_the_connection_and_nothing_comes_through(
    echo: Echo, proxy: Proxy, client: socket.socket
) -> None:
    proxy.add(Timeout(ms=150))
    began = time.monotonic()
    client.sendall(b"lost")
    assert client.recv(10) == b""
    assert time.monotonic() - began > 0.1
    assert echo.ended.wait(5)
    assert echo.heard == []


def test_a_slow_close_delays_the_end_only(proxy: Proxy, client: socket.socket, echo: Echo) -> None:
    proxy.add(SlowClose(ms=200), "up")
    assert seconds_of(client, b"quick") < 0.2
    began = time.monotonic()
    client.close()
    assert echo.ended.wait(5)
    assert time.monotonic() - began > 0.15


@pytest.mark.parametrize("forwarded", [True, False])
def test_a_drop_leaves_the_client_without_an_answer_and_the_server_with_or_without_the_word(
    echo: Echo, proxy: Proxy, client: socket.socket, forwarded: bool
) -> None:
    seconds_of(client, b"COMMIT")  # what was said before does not count
    proxy.add(DropAfter(rb"COM+IT", forwarded=forwarded), "up")
    seconds_of(client, b"BEGIN")
    client.sendall(b"CO")
    receive(client, 2)
    client.sendall(b"MMIT")
    assert client.recv(100) == b""
    assert echo.ended.wait(5)
    assert b"".join(echo.heard) == b"COMMIT" + (b"BEGINCOMMIT" if forwarded else b"BEGINCO")


def test_a_drop_in_the_answers_direction_means_that_the_server_has_acted(
    echo: Echo, proxy: Proxy, client: socket.socket
) -> None:
    proxy.add(DropAfter(b"250 OK"), "down")
    client.sendall(b"250 OK")
    assert client.recv(100) == b""
    assert echo.heard == [b"250 OK"]


def test_silence_and_cuts_can_be_turned_off_again(proxy: Proxy, client: socket.socket) -> None:
    proxy.go_silent()
    proxy.cut_at(b"word")
    proxy.talk_again()
    proxy.cut_at(None)
    seconds_of(client, b"word")
    assert proxy.active("up") == ()
