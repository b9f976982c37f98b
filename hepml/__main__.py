"""`python -m hepml`: the `hepml` command."""

from hepml.cli.main import run

if __name__ == "__main__":
    run()
