"""`python -m bench`: measure everything in up to 20 minutes, print what was found, and write docs/performance.md."""

from bench import accepting, backlog, delivering, idling, on_the_way, polling, relaying, starting
from bench.page import DATA
from bench.peers import peers
from bench.running import main

if __name__ == "__main__":
    main(
        (
            accepting.highest,
            accepting.at_half,
            polling.highest,
            polling.at_half,
            relaying.row,
            delivering.row,
            on_the_way.row,
            backlog.row,
            idling.row,
            starting.row,
        ),
        DATA,
        peers,
        command="make bench",
        description=__doc__,
        rounds=5,
    )
