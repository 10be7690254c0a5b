"""`python -m tests.chaos --rounds R --seconds S --seed N`: the campaign from the command line.

Exit codes: 0 every promise held, 1 a violation, 2 wrong options, 3 the run is void because too few faults hit.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.campaign import Campaign, Plan
from tests.chaos.report import Progress, as_json, as_table

_ENOUGH = 0.9


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=45.0, help="of faults in each round")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--rate", type=float, default=60.0, help="requests a second, at most")
    parser.add_argument("--density", type=float, default=0.5, help="of faults: at 1, something is nearly always down")
    parser.add_argument("--report", type=Path, help="where to write the report as JSON")
    parser.add_argument("--keep", type=Path, help="a folder for all artefacts, kept afterwards")
    options = parser.parse_args()
    plan = Plan(
        rounds=options.rounds,
        seconds=options.seconds,
        seed=options.seed,
        rate=options.rate,
        density=options.density,
    )
    folder = options.keep or Path(tempfile.mkdtemp(prefix="assistance-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    progress = Progress(sys.stderr)
    campaign = Campaign(plan, folder, progress)
    campaign.run()
    progress.end()
    if options.report:
        options.report.write_text(as_json(campaign))
    print(as_table(campaign))
    code = 1 if campaign.violations else 3 if campaign.hit_share < _ENOUGH else 0
    if code == 1:
        print(f"\nEverything it left is in {folder}. Repeat it with:")
        print(f"  make chaos ROUNDS={plan.rounds} SECONDS={plan.seconds:g} SEED={plan.seed} DENSITY={plan.density:g}")
    elif options.keep is None:
        shutil.rmtree(folder, ignore_errors=True)
    if code == 3:
        print(f"\nThis run is void: {campaign.hit_share:.0%} of the planned faults hit, {_ENOUGH:.0%} are needed.")
    return code


if __name__ == "__main__":
    sys.exit(main())
