"""Runs the Python of a course page, block after block in one namespace, and compares what each prints with
the text below it."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any, NamedTuple

BLOCK = re.compile(r"```python\n(?P<code>.*?)```\n(?:\n```text\n(?P<said>.*?)```\n)?", re.DOTALL)
NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?")
# Another machine's rounding may move the last digit that is shown by a few units: seeds are fixed, sums are
# not associative.
UNITS = 3


class Ran(NamedTuple):
    """A block and what it printed."""

    code: str
    quoted: str | None
    printed: str


def run(page: Path) -> list[Ran]:
    """Executes a page from the current folder."""
    space: dict[str, Any] = {"__name__": "page"}
    ran = []
    for block in BLOCK.finditer(page.read_text()):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(block["code"], f"{page.name}", "exec"), space)
        ran.append(Ran(block["code"], block["said"], out.getvalue()))
    return ran


def agrees(quoted: str, printed: str) -> bool:
    """Whether two outputs have the same words, the same integers, and decimals that differ by at most `UNITS`
    of their last digit."""
    if NUMBER.sub("#", quoted) != NUMBER.sub("#", printed):
        return False
    for a, b in zip(NUMBER.findall(quoted), NUMBER.findall(printed), strict=True):
        digits = len(a.partition(".")[2])
        if len(b.partition(".")[2]) != digits:
            return False
        allowed = UNITS * 10.0**-digits if digits else 0.0
        if abs(float(a.replace(",", "")) - float(b.replace(",", ""))) > allowed * (1 + 1e-9):
            return False
    return True


def quote(page: Path) -> None:
    """Writes into a page what its blocks print: `python tests/course/pages.py PAGE` from the repository's
    folder."""
    ran = iter(run(page))

    def filled(block: re.Match[str]) -> str:
        said = next(ran).printed
        return f"```python\n{block['code']}```\n" + (f"\n```text\n{said}```\n" if said else "")

    page.write_text(BLOCK.sub(filled, page.read_text()))


if __name__ == "__main__":
    import sys

    for name in sys.argv[1:]:
        quote(Path(name))
