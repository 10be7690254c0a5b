"""`python -m bench.scale`: the long cases, in about an hour: history, backlog, channels, more processes of a kind."""

from bench import aging, backlog, piling, spreading
from bench.page import SCALE_DATA
from bench.running import main

if __name__ == "__main__":
    main(
        (
            spreading.api_processes,
            spreading.consumers,
            spreading.channels,
            piling.row,
            backlog.long_row,
            aging.row,
        ),
        SCALE_DATA,
        lambda _say: [],
        command="make bench-scale",
        description=__doc__,
        rounds=3,
    )
