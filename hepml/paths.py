"""What the paths in a config mean: files, folders and globs, from the current folder or from the config's own
repository."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path


def repository_of(config_file: Path | None) -> Path | None:
    """The folder that a config file's relative paths may be meant from: the nearest parent with
    `pyproject.toml` or `.git`."""
    if config_file is None:
        return None
    for folder in config_file.resolve().parents:
        if (folder / "pyproject.toml").is_file() or (folder / ".git").exists():
            return folder
    return None


def resolve_path(word: str, config_file: Path | None) -> str:
    """A path of a config as an absolute one: from the current folder where something is there, else from the
    config's repository.

    A `:tree` suffix, globs and URLs are kept. Where neither place has it, the path from the current folder is
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
    return str(places[0] / base) + colon + tree


def is_there(source: str | Sequence[str]) -> bool:
    """Whether anything is at a path, glob or folder, or at each of several; of a remote one it is taken for
    granted."""
    words = [source] if isinstance(source, str) else source
    return all("://" in word or _something_at(Path(), _split_tree(word)[0]) for word in words)


def _split_tree(word: str) -> tuple[str, str, str]:
    match = re.match(r"^(.*\.(?:root|h5|npz))(:)([^:]+)$", word)
    return (match[1], match[2], match[3]) if match else (word, "", "")


def _something_at(place: Path, word: str) -> bool:
    path = place / word
    if any(c in word for c in "*?["):
        return next(glob.iglob(str(path), recursive=True), None) is not None
    return path.exists()
