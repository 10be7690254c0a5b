"""`python -m assistance` is the command `assistance`."""

from assistance.cli import main

main()
