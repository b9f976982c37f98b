"""What the pages of docs/, the README and their kind say of the program: commands, names and paths.

Plain readers of Markdown and of strings in source files; `test_docs.py` holds what they find against hepml.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *sorted((ROOT / "docs").rglob("*.md")),
    *(
        page
        for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md")
        if (page := ROOT / name).exists()  # a source archive leaves one out
    ),
]
FENCE = re.compile(r"(?ms)^( *)```(?P<language>\w*)\n(?P<body>.*?)^ *```")
SHELL = {"bash", "console", "sh"}


class Piece(NamedTuple):
    """A code span, a line of a code block or a string, and where it stands."""

    where: str
    text: str


def blocks(page: Path, *languages: str) -> Iterator[Piece]:
    """The fenced blocks of a page in one of these languages."""
    text = page.read_text()
    for found in FENCE.finditer(text):
        if found["language"] in languages:
            yield Piece(_where(page, text, found.start()), found["body"])


def spans(page: Path) -> Iterator[Piece]:
    """The code spans of a page, without its blocks, each on one line."""
    text = FENCE.sub(lambda block: "\n" * block[0].count("\n"), page.read_text())
    for found in re.finditer(r"`([^`]+)`", text):
        yield Piece(_where(page, text, found.start()), " ".join(found[1].split()))


def shell_lines(page: Path) -> Iterator[Piece]:
    """Code spans and the lines of shell blocks; a line that ends with a backslash goes on."""
    yield from spans(page)
    for block in blocks(page, *SHELL):
        for line in block.text.replace("\\\n", " ").splitlines():
            yield Piece(block.where, line)


def commands(line: str) -> Iterator[list[str]]:
    """The words after `hepml` of each call in a line of shell."""
    for part in re.split(r"&&|\|(?!\|)|;", line.split(" #")[0]):
        try:
            words = shlex.split(part)
        except ValueError:  # prose with an apostrophe
            continue
        for at, word in enumerate(words):
            if word == "hepml" and (at == 0 or _runs_the_next(words[:at])):
                end = next((i for i, w in enumerate(words) if i > at and w in {">", ">>"}), None)
                yield words[at + 1 : end]
            elif " hepml " in word and words[0] == "sbatch":
                yield from commands(word.partition("exec srun ")[2])


def _runs_the_next(words: list[str]) -> bool:
    return words[0] in {"$", "srun", "torchrun"} or "=" in words[-1]


@cache
def strings(folder: Path) -> list[Piece]:
    """The strings of source files, in which `…` stands for what is filled in."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                text = "".join(v.value if isinstance(v, ast.Constant) else "…" for v in node.values)  # type: ignore[misc]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            else:
                continue
            found.append(Piece(f"{path.relative_to(ROOT)}:{node.lineno}", text))
    return found


def calls_in(text: str, known: Iterable[str]) -> Iterator[list[str]]:
    """Words after each `hepml COMMAND` of prose, up to the next punctuation or call."""
    for found in re.finditer(
        rf"\bhepml (?=(?:{'|'.join(known)})\b)(.*?)(?=[`,()\n·]|\.\s|\.$|\bhepml\b|$)", text
    ):
        yield found[1].split()


def braces(word: str) -> list[str]:
    """What bash makes of `a{b,c}d`; an ellipsis among them is left out."""
    found = re.fullmatch(r"(.*?)\{([^{}]*,[^{}]*)\}(.*)", word)
    if not found:
        return [word]
    parts = [part for part in found[2].split(",") if part != "…"]
    return [whole for part in parts for whole in braces(found[1] + part + found[3])]


def parsed(command: Any, words: list[str]) -> tuple[list[str], list[str]] | str:
    """A call compared with a tree of commands: the command's path and the words that are no options, or what
    is wrong with it."""
    path: list[str] = []
    words = list(words)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        if words[0] not in command.commands:
            if path and command.invoke_without_command:
                break
            return f"no command '{' '.join([*path, words[0]])}'"
        path.append(words[0])
        command = command.commands[words.pop(0)]
    options = {name: p for p in command.params for name in (*p.opts, *p.secondary_opts)}
    options |= dict.fromkeys(("--help", "--debug", "--install-completion", "--show-completion"))
    rest = []
    while words:
        word = words.pop(0)
        if not re.match(r"--?[A-Za-z]", word):
            rest.append(word)
            continue
        name, given, _ = word.partition("=")
        if name not in options:
            return f"'hepml {' '.join(path)}' has no option {name}"
        if options[name] is not None and not given and not getattr(options[name], "is_flag", False):
            del words[:1]
    return path, rest


def _where(page: Path, text: str, at: int) -> str:
    return f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, at) + 1}"
