"""A copy of hepml beside the runs, so that a job that waits, or is queued again, runs the code it was
submitted with, whatever happens to the checkout meanwhile."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import hepml
from hepml import outputs

CODE = "code"
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


def from_a_checkout() -> bool:
    """Whether the hepml that runs is one that somebody edits."""
    return (Path(hepml.__file__).resolve().parents[1] / "pyproject.toml").is_file()


def take(output: Path, plugins: dict[str, Path] | None = None) -> Path:
    """Copies the package, and plugins, into `OUTPUT/code/DIGEST`; the same code is kept once.

    Args:
        output: folder of the runs.
        plugins: name in the copy to file.

    Returns:
        the folder to put on PYTHONPATH.
    """
    source = Path(hepml.__file__).resolve().parent
    plugins = plugins or {}
    place = output / CODE / _digest(source, plugins)
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        with outputs.building(place) as partial:
            if partial is None:
                return place
            shutil.copytree(source, partial / "hepml", ignore=_LEFT_OUT)
            beside = source.parent / "configs"  # beside the package in a checkout, inside it in a wheel
            if beside.is_dir() and not (source / "shipped").is_dir():
                shutil.copytree(beside, partial / "hepml" / "shipped" / "configs", ignore=_LEFT_OUT)
            for name, file in plugins.items():
                shutil.copy2(file, partial / name)
    except OSError as problem:
        raise outputs.cannot_write(place, problem) from None
    return place


def _digest(source: Path, plugins: dict[str, Path]) -> str:
    total = hashlib.sha256()
    for file in sorted(source.rglob("*.py")):
        total.update(str(file.relative_to(source)).encode() + b"\0" + file.read_bytes())
    for name, file in sorted(plugins.items()):
        total.update(name.encode() + b"\0" + file.read_bytes())
    return total.hexdigest()[:12]
