"""Counts for docs/reliability.md: `python tests/chaos/count.py damage kinds` runs every variant and every
kind of bad input again and writes the two tables into the page."""

from __future__ import annotations

import re
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from chaos import kinds
from chaos.damage import outcomes
from chaos.formats import FORMATS

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
FIRST, MANY = 1_000, 460
DAMAGE = ("same", "refused", "payload", "wrong")
KINDS = ("read right", "screened", "refused", "wrong")


def count_damage(variants: int = MANY) -> dict[str, Counter[str]]:
    """What became of damaged files, by format."""
    found = {}
    for kind in FORMATS:
        with tempfile.TemporaryDirectory() as folder:
            found[kind.name], _ = outcomes(kind, Path(folder), range(FIRST, FIRST + variants))
    return found


def count_kinds(formats: Iterable[str] = kinds.FORMATS) -> tuple[dict[str, Counter[str]], list[str]]:
    """What became of every kind of input, by what it is about, and what was wrong."""
    found: dict[str, Counter[str]] = {}
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, name in kinds.cases():
            if name not in formats:
                continue
            outcome = kinds.outcome(kind, name, Path(folder))
            found.setdefault(kind.group, Counter())[outcome.partition(":")[0]] += 1
            if outcome.startswith("wrong"):
                wrong.append(f"{kind.name}, {name}: {outcome}")
    return found, wrong


def table(head: str, columns: Mapping[str, str], counts: Mapping[str, Counter[str]]) -> str:
    """Counts as a table of Markdown, with their sums."""
    rows = [f"| {head} | Tried | {' | '.join(columns.values())} |", f"|---|---:|{'---:|' * len(columns)}"]
    total: Counter[str] = Counter()
    for name, found in counts.items():
        total.update(found)
        rows.append(f"| {name} | {found.total()} | {' | '.join(str(found[c]) for c in columns)} |")
    rows.append(f"| **all** | {total.total():,} | {' | '.join(f'{total[c]:,}' for c in columns)} |")
    return "\n".join(rows)


def damage_table(counts: Mapping[str, Counter[str]]) -> str:
    words = ("Read as it was", "Refused in one line", "Payload without a checksum", "Wrong")
    return table("Format", dict(zip(DAMAGE, words, strict=True)), counts)


def kinds_table(counts: Mapping[str, Counter[str]]) -> str:
    words = ("Read right", "Dropped and counted", "Refused in one line", "Wrong")
    return table("What is odd or bad", dict(zip(KINDS, words, strict=True)), counts)


def put(name: str, text: str) -> None:
    """Puts a table between its marks in the page."""
    page = PAGE.read_text()
    pattern = rf"(<!-- {name}: .*? -->\n).*?(\n<!-- end of {name} -->)"
    made, found = re.subn(pattern, lambda match: f"{match[1]}\n{text}\n{match[2]}", page, flags=re.DOTALL)
    assert found == 1, f"no marks for {name} in {PAGE}"
    PAGE.write_text(made)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for word in sys.argv[1:]:
        put(word, damage_table(count_damage()) if word == "damage" else kinds_table(count_kinds()[0]))
