"""What the paths in a config mean, and where hepml's own configs and jets are.

A relative path is looked for in the current folder, then in the repository that the config belongs to (or in
what the wheel carries), then on the data path: the folders of the environment variable `HEPML_DATA`,
separated as in `PATH`, with their subfolders.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from hepml.errors import ConfigError

DATA_PATH = "HEPML_DATA"
RUN_CONFIG = "config.yaml"  # in the folder of a run: the config that it was trained by
_DEPTH = 3  # folders below one of the data path that are searched
_WEIGHTS = (".pt", ".pth", ".ckpt")
_PACKAGE = Path(__file__).resolve().parent


def shipped_folder() -> Path:
    """The folder that holds hepml's own `configs/` and `data/`: in the installed package, or the checkout."""
    carried = _PACKAGE / "shipped"
    return carried if (carried / "configs").is_dir() else _PACKAGE.parent


def shipped_configs() -> dict[str, Path]:
    """Configs that can be named without a path: {name: file}, as `quickstart` or `toptag/particlenet`."""
    root = shipped_folder() / "configs"
    files = sorted(root.rglob("*.yaml"))
    named = {path.relative_to(root).with_suffix("").as_posix(): path for path in files}
    return {name: path for name, path in named.items() if not name.startswith("layouts/")}


def config_file(word: Path | str) -> Path:
    """The config file that a word of the command line means: a path wins over the name of a shipped config,
    but a folder only where it is that of a run."""
    path = Path(word).expanduser()
    if path.is_file() or (path / RUN_CONFIG).is_file():
        return path
    name = path.as_posix().removesuffix(".yaml").removeprefix("configs/")
    return shipped_configs().get(name, path)


def data_path() -> list[Path]:
    """The folders of `HEPML_DATA`, in order; those that are not there are left out."""
    words = os.environ.get(DATA_PATH, "").split(os.pathsep)
    return [folder for word in words if word.strip() and (folder := Path(word).expanduser()).is_dir()]


def on_data_path(word: str) -> Path | None:
    """A file (or folder, or glob) of the data path: `word` in one of its folders or at most three below, the
    first folder that has it; None where none has."""
    for folder in data_path():
        for place in _with_subfolders(folder):
            if _something_at(place, word):
                return (place / word).absolute()
    return None


def repository_of(config_file: Path | None) -> Path | None:
    """The folder that a config file's relative paths may be meant from: the nearest parent with
    `pyproject.toml` or `.git`, or the one that the wheel carries configs and jets in."""
    if config_file is None:
        return None
    shipped = shipped_folder()
    for folder in config_file.resolve().parents:
        if folder == shipped or (folder / "pyproject.toml").is_file() or (folder / ".git").exists():
            return folder
    return None


def resolve_path(word: str, config_file: Path | None) -> str:
    """A path of a config as an absolute one: from the current folder where something is there, else from the
    config's repository, else from the data path, else among the jets that hepml carries.

    A `:tree` suffix, globs and URLs are kept. Where no place has it, the path from the current folder is
    returned and whoever opens it reports it missing.
    """
    if "://" in word:
        return word
    base, colon, tree = _split_tree(word)
    if Path(base).expanduser().is_absolute():
        return str(Path(base).expanduser()) + colon + tree
    places = [Path.cwd()]
    repository = repository_of(config_file)
    if repository is not None:
        places.append(repository)
    for place in places:
        if _something_at(place, base):
            return str((place / base).absolute()) + colon + tree
    further = on_data_path(base)
    if further is None and _something_at(shipped_folder(), base):
        further = shipped_folder() / base
    return str(further if further is not None else places[0] / base) + colon + tree


def resolve_weights(word: str, config_file: Path | None) -> str:
    """A path of weights, a run or a checkpoint as `resolve_path` gives it; of a bare name such as
    `lorentznet_toptag` the file of that name with one of the endings of weights, where there is one."""
    for ending in ("", *_WEIGHTS):
        path = resolve_path(word + ending, config_file)
        if "://" in path or Path(path).exists():
            return path
    return resolve_path(word, config_file)


def is_there(source: str | Sequence[str]) -> bool:
    """Whether anything is at a path, glob or folder, or at each of several; of a remote one it is taken for
    granted."""
    words = [source] if isinstance(source, str) else source
    return all("://" in word or _something_at(Path(), _split_tree(word)[0]) for word in words)


def describe_data_path() -> str:
    """The data path in words, for messages about a file that is not there."""
    folders = os.environ.get(DATA_PATH, "")
    return f"{DATA_PATH} is {folders}" if folders else f"{DATA_PATH} is not set"


def _with_subfolders(folder: Path) -> Iterator[Path]:
    """The folder, then its subfolders, nearest first."""
    return iter(_subfolders(folder, folder.stat().st_mtime_ns))


@lru_cache(maxsize=64)
def _subfolders(folder: Path, _changed: int) -> tuple[Path, ...]:
    folders, level = [folder], [folder]
    for _ in range(_DEPTH):
        level = [
            below
            for parent in level
            for below in sorted(parent.iterdir())
            if below.is_dir() and not below.name.startswith(".") and os.access(below, os.R_OK | os.X_OK)
        ]
        folders += level
    return tuple(folders)


def _split_tree(word: str) -> tuple[str, str, str]:
    match = re.match(r"^(.*\.(?:root|h5|npz))(:)([^:]+)$", word)
    return (match[1], match[2], match[3]) if match else (word, "", "")


def _something_at(place: Path, word: str) -> bool:
    path = place / word
    if any(c in word for c in "*?["):
        return next(glob.iglob(str(path), recursive=True), None) is not None
    return path.exists()


def check_name(name: str, where: str) -> str:
    """The name, where it can be that of a file: no path, nothing hidden, nothing that a screen cannot show.

    Raises:
        ConfigError: another one.
    """
    odd = not name.strip() or len(name) > 120 or not name.isprintable() or name.startswith((".", "-"))
    if odd or set(name) & set("/\\"):
        raise ConfigError(
            f"'{name[:60]}' is no name",
            where=where,
            mend="names become file names: use letters, digits, spaces, _ and -, without / in them",
        )
    return name
