"""`python -m mibench`."""

from mibench.cli import main

if __name__ == "__main__":
    main()
