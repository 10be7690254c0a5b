"""Keeps a disk in memory mounted while its owner lives: `python keep_mounted.py FOLDER SIZE`.

Says `mounted`, then waits for its standard input to close, which the kernel does when the owner dies in whatever way.
"""

import signal
import subprocess
import sys


def main(folder: str, size: str) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    code = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", folder], check=False
    ).returncode
    if code:
        return code
    sys.stdout.write("mounted\n")
    sys.stdout.flush()
    sys.stdin.read()
    # Lazily, because a server that is being killed may hold files for a moment longer.
    return subprocess.run(["umount", "--lazy", folder], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
