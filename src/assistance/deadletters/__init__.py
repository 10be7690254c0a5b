"""What will not be tried again by itself: drained from the dead letter queue into rows that operators can act on."""
