#!/usr/bin/env -S uv run --script
# /// script
# dependencies = ["nox>=2025.2.9"]
# ///
"""Tasks of a developer: `nox -s tests`, `lint`, `docs`, `notebooks`, `build`, `spelling`."""

from __future__ import annotations

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
CONSTRAINTS = ("-c", "constraints.txt")


@nox.session
def tests(session: nox.Session) -> None:
    """The tests; further words are handed to pytest, as in `nox -s tests -- -m slow`."""
    session.install(*CONSTRAINTS, "-e", ".[dev]")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, formatting and types."""
    session.install(*CONSTRAINTS, "-e", ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session(default=False)
def spelling(session: nox.Session) -> None:
    """Spelling of code and documentation."""
    session.install("codespell")
    session.run("codespell")


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """The documentation site, in site/; a broken link or an orphan page is an error."""
    session.install(*CONSTRAINTS, "-e", ".[docs]")
    session.run("mkdocs", "build", "--strict", *session.posargs)


@nox.session(default=False)
def notebooks(session: nox.Session) -> None:
    """The course and the how-tos as notebooks, executed, in docs/notebooks/; words choose some of them."""
    session.install(*CONSTRAINTS, "-e", ".[notebooks,export]")
    session.run("python", "docs/notebooks.py", "--execute", *session.posargs)


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """The source archive and the wheel, in dist/."""
    session.install("build")
    session.run("python", "-m", "build")


if __name__ == "__main__":
    nox.main()
