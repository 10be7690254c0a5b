"""Ways to reach people: one file per type, found through `registry`; the rules are in `contract`."""
