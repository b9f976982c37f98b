"""What the pages say of the program is so: commands and options, configs and their keys, files, names and
links."""

from __future__ import annotations

import ast
import importlib
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from doc_pages import PAGES, ROOT, blocks, braces, calls_in, commands, parsed, shell_lines, spans, strings
from pydantic import BaseModel

import hepml
from hepml import config as configs
from hepml import models, objectives
from hepml.cli.main import COMMANDS, build, with_quiet
from hepml.data.reading.jet_lists import JetLists
from hepml.data.reading.layouts import Layout
from hepml.errors import HepmlError
from hepml.paths import shipped_configs
from hepml.training.dynamics.config import DynamicsConfig
from hepml.training.run_config import KINDS, RunConfig, check, load_run_config

# Names of other projects' files, and files that the reader writes.
NOT_OURS = {"my_model.py", "mine.py", "networks/example_PCNN.py", "train.py", "configs/dynamics/TASK.yaml"}
SCHEMAS = (RunConfig, DynamicsConfig)
TAKES_CONFIGS = {"train", "benchmark", "tune", "submit"}


@cache
def program() -> Any:
    """The tree of commands, each with the `-q` that all take."""
    return with_quiet(typer.main.get_command(build()))


def wrong(faults: list[str]) -> str:
    return "\n" + "\n".join(faults)


def test_every_command_of_the_pages_exists_with_its_options() -> None:
    faults, calls = [], 0
    for page in PAGES:
        for where, line in shell_lines(page):
            for words in commands(line):
                calls += 1
                if isinstance(found := parsed(program(), words), str):
                    faults.append(f"{where}: {found}")
    assert calls > 150
    assert not faults, wrong(faults)


def test_every_command_that_the_program_speaks_of_exists() -> None:
    """Of help, errors, docstrings and comments in configs, which tell a user what to type."""
    said = [(w, calls) for w, text in strings(ROOT / "hepml") for calls in calls_in(text, COMMANDS)]
    for path in shipped_configs().values():
        comments = "\n".join(re.findall("#(.*)", path.read_text()))
        said += [(str(path.relative_to(ROOT)), calls) for calls in calls_in(comments, COMMANDS)]
    faults = [f"{w}: {found}" for w, words in said if isinstance(found := parsed(program(), words), str)]
    assert len(said) > 150
    assert not faults, wrong(faults)


def test_every_override_on_a_command_line_is_a_key() -> None:
    faults, tried = [], 0
    for page in PAGES:
        for where, line in shell_lines(page):
            for words in commands(line):
                path, rest = found if isinstance(found := parsed(program(), words), tuple) else ([], [])
                settings = [w for w in rest if re.match(r"[a-z_.]+=[^…]*$", w)]
                if path and path[0] in TAKES_CONFIGS and settings:
                    tried += 1
                    named = [name for word in rest for name in _configs_of(word)]
                    try:
                        load_run_config(named[0] if named else "toptag/pfn", settings)
                    except HepmlError as error:
                        faults.append(f"{where}: {error}")
    assert tried >= 15
    assert not faults, wrong(faults)


def _configs_of(word: str) -> list[str]:
    whole = [w for w in braces(word) if "=" not in w]
    return [w for w in whole if w in shipped_configs()] + [
        str(path) for w in whole if w.startswith("configs/") for path in sorted(ROOT.glob(w))
    ]


def test_every_config_and_file_that_a_page_names_is_there() -> None:
    short = {p.name for folder in ("docs", "tests", "hepml") for p in (ROOT / folder).rglob("*.py")}
    faults, seen = [], 0
    for page in PAGES:
        for where, text in shell_lines(page):
            words = [w for word in text.split() for w in braces(word.strip("'\"(),"))]
            for word in words:
                if re.fullmatch(r"(toptag|dynamics)/\w+", word):
                    seen += 1
                    if word not in shipped_configs():
                        faults.append(f"{where}: no config {word}")
                elif re.fullmatch(r"(configs|tests|docs|hepml)/[\w/.*-]+|[\w/-]+\.py", word):
                    seen += 1
                    here = any(ROOT.glob(word)) or word in short or (page.parent / word).exists()
                    if not here and word not in NOT_OURS and "site-packages" not in word:
                        faults.append(f"{where}: no file {word}")
    assert seen > 150
    assert not faults, wrong(faults)


def test_every_key_that_a_page_names_is_one_of_a_config() -> None:
    """Or a name of the package, as in `evaluation.fit_temperature`."""
    kinds = [entry.build for entry in models.registry().values()], objectives.OBJECTIVES.values()
    below = {
        block: {"name", "pretrained", "initialisation"}.union(*map(_arguments, builds))
        for block, builds in zip(KINDS, kinds, strict=True)
    }
    faults, seen = [], 0
    for page in PAGES:
        for where, text in spans(page):
            for key in re.findall(r"(?<![\w./-])((?:[a-z_]+\.)+[a-z_]+)(?=[\s=:,)]|$)", text):
                head, *rest = key.split(".")
                if head not in RunConfig.model_fields or text.startswith(("error:", "tracking.json")):
                    continue
                seen += 1
                known = _exists(f"hepml.{key}") or (head in below and rest[0] in below[head])
                if not known and not any(_has(schema, key.split(".")) for schema in SCHEMAS):
                    faults.append(f"{where}: no key {key}")
    assert seen > 100
    assert not faults, wrong(faults)


def test_the_table_of_keys_names_fields() -> None:
    page = (ROOT / "docs/first-tagger.md").read_text().partition("| Block | Keys |")[2].partition("\n\n")[0]
    rows = {
        row[1]: set(re.findall(r"`([a-z_]+)`", row[2])) for row in re.finditer(r"\| `(\w+)` \|(.*)", page)
    }
    assert len(rows) > 4
    for block in ("data", "training", "evaluation", "tracking"):
        faults = {key for key in rows[block] if not _has(RunConfig, [block, key])}
        assert not faults, f"no keys of {block}: {faults}"
    assert rows["objective"] == objectives.OBJECTIVES.keys()


def _arguments(build: Any) -> set[str]:
    return set(configs.signature_schema(build, "any").model_fields)


def _has(schema: type[BaseModel], path: list[str]) -> bool:
    field = schema.model_fields.get(path[0])
    if field is None:
        return False
    inner = configs._schema_in(field.annotation)
    return len(path) == 1 or inner is None or _has(inner, path[1:])


def test_the_configs_of_the_pages_are_configs() -> None:
    """Blocks of YAML, each laid over a shipped config where it is a part of one."""
    faults, tried = [], 0
    for page in PAGES:
        for where, text in blocks(page, "yaml"):
            values = yaml.safe_load(text)
            layout = values.pop("layout", None) or values.get("data", {}).get("layout")
            tried += 1
            try:
                if layout is not None:
                    Layout.parse(layout)
                if any("." in key for key in values):  # ranges of a search
                    faults += [f"{where}: no key {key}" for key in values if not _searched(key)]
                elif values.keys() <= RunConfig.model_fields.keys():
                    check(configs.from_mapping({"base": "toptag/pfn", **values}, kinds=KINDS))
                else:  # names of an official network's columns
                    JetLists(ROOT / "data/toptag/val.root", values)
            except HepmlError as error:
                faults.append(f"{where}: {error}")
    assert tried > 10
    assert not faults, wrong(faults)


def _searched(key: str) -> bool:
    return _has(RunConfig, key.split("."))


def test_every_python_name_of_the_pages_exists() -> None:
    """Imports of blocks, and `hepml.x.y` wherever code is; of errors and docstrings too."""
    faults, seen = [], 0
    for page in PAGES:
        for where, text in blocks(page, "python"):
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.ImportFrom) and str(node.module).startswith("hepml"):
                    faults += [
                        f"{where}: no {node.module}.{alias.name}"
                        for alias in node.names
                        if not _exists(f"{node.module}.{alias.name}")
                    ]
    code = [piece for page in PAGES for piece in (*blocks(page, "python"), *spans(page))]
    for where, text in [*code, *strings(ROOT / "hepml")]:
        for name in re.findall(r"(?<![\w./-])hepml(?:\.\w+)+(?![\w*/]|\.\*)", text):
            seen += 1
            if not name.endswith(".py") and not _exists(name):
                faults.append(f"{where}: no {name}")
    assert seen > 200
    assert not faults, wrong(faults)


def _exists(name: str) -> bool:
    if name in _metadata():
        return True
    value: Any = hepml
    parts = name.split(".")
    for at, part in enumerate(parts[1:], 2):
        if hasattr(value, part):
            value = getattr(value, part)
            continue
        try:
            value = importlib.import_module(".".join(parts[:at]))
        except ImportError:
            return False
    return True


@cache
def _metadata() -> set[str]:
    """Keys of exported files and tags of MLflow, which begin with `hepml.` too."""
    return {
        text for _, text in strings(ROOT / "hepml") if re.fullmatch(r"hepml\.[a-z_]+", text) and "." in text
    }


def test_every_link_leads_somewhere() -> None:
    """To files, those outside docs/ too, of which mkdocs knows nothing, and to headings."""
    faults, seen = [], 0
    for page in PAGES:
        text = re.sub(r"(?ms)^ *```.*?^ *```", "", page.read_text())
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"\w+:", link):
                continue
            seen += 1
            file, _, anchor = link.partition("#")
            target = page.parent / file if file else page
            if not target.exists():
                faults.append(f"{page.name}: no file {link}")
            elif anchor and anchor not in _anchors(target):
                faults.append(f"{page.name}: no heading {link}")
    assert seen > 100
    assert not faults, wrong(faults)


def _anchors(page: Path) -> set[str]:
    titles = re.findall(r"(?m)^#+ (.*)$", re.sub(r"(?ms)^ *```.*?^ *```", "", page.read_text()))
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("trian quickstart", "no command 'trian'"),
        ("runs lst", "no command 'runs lst'"),
        ("train quickstart --epochs 3", "'hepml train' has no option --epochs"),
    ],
)
def test_a_wrong_command_is_found(words: str, said: str) -> None:
    assert parsed(program(), words.split()) == said
    assert list(commands(f"PATH=x hepml {words} | less  # hepml again")) == [words.split()]
