"""`python -m assistance` is the command `assistance`."""

from assistance.cli import main

if __name__ == "__main__":  # the API's worker processes import this module again
    main()
