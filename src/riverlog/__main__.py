"""`python -m riverlog` is the same as the `riverlog` command."""

from riverlog.cli import main

if __name__ == "__main__":
    main()
