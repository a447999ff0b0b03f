"""`python -m embedsearch` is the command `embedsearch`."""

from embedsearch.cli.main import run

if __name__ == "__main__":
    run()
