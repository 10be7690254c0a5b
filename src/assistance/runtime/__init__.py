"""What every process needs and no stage owns: clock, ids, logs, metrics, loops, signals."""
