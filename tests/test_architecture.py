"""The house stands: imports run downwards only, without circles, and files stay small enough to read."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

# Floor of each room (docs/architecture.md). A room may import only from lower floors, or from itself.
FLOORS = {
    "errors": 0,
    "kinematics": 0,
    "config": 0,
    "documents": 0,
    "paths": 0,
    "outputs": 0,
    "progress": 0,
    "interrupts": 0,
    "faces": 0,
    "redaction": 0,
    "data": 1,
    "generation": 1,
    "packed": 1,
    "nn": 2,
    "representations": 2,
    "objectives": 2,
    "dynamics": 2,
    "models": 3,
    "evaluation": 4,
    "pretrained": 4,
    "testing": 4,
    "inference": 5,
    "tracking": 5,
    "training": 6,
    "cluster": 6,
    "cli": 7,
    "__main__": 8,
}
# Rooms on one floor that may see each other, with the reason.
NEIGHBOURS = {
    ("generation", "data"),  # recipes write the layout that data/ reads
    ("data", "packed"),  # batches are packed tensors; packed/ itself stands on floor 0 alone
    ("dynamics", "nn"),  # learned Hamiltonians are layers
    ("errors", "redaction"),  # no message shows a secret
    ("config", "redaction"),
    ("outputs", "errors"),  # a disk that refuses is an error
    ("outputs", "paths"),  # a folder of a run is told by its config
    ("config", "documents"),  # a config is a document
    ("documents", "errors"),
    ("config", "errors"),  # what is wrong with a config is an error
    ("paths", "errors"),  # a name that is none is an error
    ("config", "paths"),  # a config may be named
}
ROOT = Path(__file__).resolve().parents[1] / "hepml"
FILES = sorted(ROOT.rglob("*.py"))


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "hepml" and len(parts) > 1 else None


def imported_modules(path: Path, *, for_types: bool = False) -> set[str]:
    """Every hepml module that a file imports, in functions too; with `for_types` in blocks for type checkers
    as well."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if not for_types and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the whole name"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            files = {m for m in inner if is_module(m)}
            found.update(files)
            if files != inner:  # some name comes from the module itself
                found.add(node.module or "")
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return {m for m in found if m == "hepml" or m.startswith("hepml.")}


def is_module(name: str) -> bool:
    place = ROOT.parent / name.replace(".", "/")
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(module_of(p)) for p in FILES} - {None}
    assert rooms <= FLOORS.keys(), f"give these rooms a floor: {rooms - FLOORS.keys()}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_downwards(path: Path) -> None:
    here = room_of(module_of(path))
    if here is None:
        return  # hepml/__init__.py hands public names on, lazily
    for module in imported_modules(path):
        there = room_of(module)
        if there is None or there == here:
            continue
        assert there in FLOORS, f"{path.name} imports {module}, which is no room"
        if (here, there) in NEIGHBOURS:
            continue
        assert FLOORS[there] < FLOORS[here], (
            f"{here} (floor {FLOORS[here]}) imports {module} (floor {FLOORS[there]})"
        )


def test_there_is_no_circle_of_imports() -> None:
    """Neither when modules are imported, nor when functions are called, nor for type checkers."""
    modules = {
        module_of(p): imported_modules(p, for_types=True) for p in FILES if room_of(module_of(p)) is not None
    }
    graph = {m: {d for d in deps if d in modules and d != m} for m, deps in modules.items()}
    # A package's face imports its own rooms; that is no circle unless a room imports the face.
    state: dict[str, int] = {}

    def walk(module: str, path: tuple[str, ...]) -> None:
        state[module] = 1
        for dependency in sorted(graph[module]):
            assert state.get(dependency) != 1, "circle: " + " -> ".join([*path, module, dependency])
            if dependency not in state:
                walk(dependency, (*path, module))
        state[module] = 2

    for module in sorted(graph):
        if module not in state:
            walk(module, ())


@pytest.mark.parametrize("folder", ["hepml", "configs", "tests", "docs"])
def test_no_personal_path_is_shipped(folder: str) -> None:
    """salt ships personal paths in its configs; ours must run on any machine."""
    forbidden = ("/home/", "/Users/", "/afs/", "/eos/user", "/work/", "/root/")
    for path in (ROOT.parent / folder).rglob("*"):
        if (
            path.suffix not in {".py", ".yaml", ".yml", ".md", ".sh", ".toml"}
            or path == Path(__file__).resolve()
        ):
            continue
        text = path.read_text()
        for piece in forbidden:
            # an absolute path begins with it; ../shared/data/root/ does not
            found = re.search(rf"(?<![\w.]){re.escape(piece)}", text)
            assert found is None, f"{path.relative_to(ROOT.parent)} names {piece}"


@pytest.mark.parametrize(
    "place", ["hepml", "configs", "docs", "README.md", "CONTRIBUTING.md", "data/README.md"]
)
def test_nothing_points_outside_the_repository(place: str) -> None:
    root = ROOT.parent / place
    for path in [root] if root.is_file() else sorted(root.rglob("*")):
        if path.suffix in {".py", ".yaml", ".yml", ".md", ".ipynb", ".toml"}:
            assert "../shared" not in path.read_text(), f"{path} names a path that no user has"


def test_no_file_is_too_long_to_read() -> None:
    long = {str(p.relative_to(ROOT)): n for p in FILES if (n := len(p.read_text().splitlines())) > 450}
    assert not long, f"split these, or give a reason here: {long}"


def test_examples_stand_under_a_heading_that_the_reference_knows() -> None:
    """griffe reads `Examples:`; under `Example:` the lines become quotations."""
    wrong = [p.name for p in FILES if re.search(r"(?m)^ *Example:$", p.read_text())]
    assert not wrong, f"write `Examples:` in {wrong}"
