"""`python -m mibench`."""

from mibench.cli.main import main

if __name__ == "__main__":
    main()
