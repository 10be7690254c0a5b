"""Runs a RabbitMQ server and outlives it: `python rabbit_guard.py EPMD EPMD_PORT COMMAND…`.

Prints the server's process group, then waits for the server to end or for its own standard input to close, which the
kernel does when the process that started us dies in whatever way. Either way nothing is left running: not the Erlang
machine, and not the port mapper daemon that it starts and never stops
(EPMD_PORT 0: there is none to stop).
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time


def main(epmd: str, epmd_port: str, *command: str) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True)
    sys.stdout.write(f"{server.pid}\n")
    sys.stdout.flush()
    select.select([sys.stdin, os.pidfd_open(server.pid)], [], [])
    # Before the server's number is given back by wait(), so that it cannot be somebody else's group.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    code = server.wait()
    if epmd_port != "0":
        _stop_port_mapper(epmd, epmd_port)
    return code


def _stop_port_mapper(epmd: str, port: str) -> None:
    """It refuses while it knows a live node, and takes a moment to notice a dead one."""
    deadline = time.monotonic() + 10
    while _listens(int(port)) and time.monotonic() < deadline:
        subprocess.run(
            [epmd, "-port", port, "-kill"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
        )
        time.sleep(0.02)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
