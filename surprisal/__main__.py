"""python -m surprisal: the command line."""

from surprisal.cli.main import main

if __name__ == "__main__":
    main()
