"""The run folder: the truth about a run. Config, environment, git state, journal, checkpoints, scores, plots,
summary.

Every file is written beside its final name and renamed.
"""

from __future__ import annotations

import io
import json
import math
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hepml import config as configs
from hepml.errors import FileError, nearest
from hepml.paths import RUN_CONFIG
from hepml.redaction import redacted
from hepml.training.checkpoints import LAST, write_atomically
from hepml.training.run_config import RunConfig

CONFIG, SUMMARY, STATE = RUN_CONFIG, "summary.json", "run.json"
COST, BOOST = "cost.json", "boost.json"  # what a benchmark measures of it
_RESULTS = (SUMMARY, "scores", "plots", "tables", COST, BOOST)
_EARLIER = "earlier"


class RunDirectory:
    """A run folder.

    Args:
        path: the folder; made where it is absent.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def last(self) -> Path:
        return self.checkpoints / LAST

    def prepare(self, *, resume: bool) -> None:
        """Makes the folder.

        Raises:
            FileError: it holds a run already and this is no resumption; or it cannot be made.
        """
        if not resume and ((self.path / CONFIG).exists() or self.last.exists()):
            raise FileError(
                "this folder already holds a run",
                where=str(self.path),
                mend="give another --output, or --resume to go on with it",
            )
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise FileError(
                f"cannot make the run folder ({problem.strerror})",
                where=str(self.path),
                mend="give another --output",
            ) from None

    def write_config(self, config: RunConfig) -> None:
        values = redacted(configs.plain_values(config))
        values.pop("output", None)  # a copy of this run is another run
        heading = (
            "# The config of this run, as it was checked; `hepml train` with this file starts the same run "
            "again.\n"
        )
        text = heading + configs.dump_yaml(values)
        write_atomically(self.path / CONFIG, text.encode())

    def put_results_aside(self) -> Path | None:
        """Moves what a finished run left into `earlier/TIME`, where the run goes on to other results:
        those of its old weights, or of test jets that it has no more, are not taken for its own. Returns that
        folder, None without results."""
        if not (self.path / SUMMARY).is_file():
            return None
        aside = untaken(self.path / _EARLIER / time.strftime("%Y%m%d-%H%M%S"))
        aside.mkdir(parents=True)
        for name in reversed(_RESULTS):  # the summary last: a run that has one has all of them
            if (self.path / name).exists():
                # a folder with a summary.json would be taken for a run
                (self.path / name).rename(aside / ("results.json" if name == SUMMARY else name))
        return aside

    def write_json(self, name: str, values: Any) -> None:
        write_atomically(self.path / name, (json.dumps(redacted(finite(values)), indent=2) + "\n").encode())

    def read_json(self, name: str) -> dict[str, Any]:
        try:
            return dict(json.loads((self.path / name).read_text()))
        except (OSError, ValueError, TypeError, RecursionError):
            return {}

    def write_scores(self, name: str, arrays: Mapping[str, np.ndarray]) -> Path:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        path = self.path / "scores" / f"{name}.npz"
        write_atomically(path, buffer.getvalue())
        return path

    def write_figure(self, name: str, figure: Any) -> Path:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150, bbox_inches="tight")
        path = self.path / "plots" / f"{name}.png"
        write_atomically(path, buffer.getvalue())
        return path


def default_output(config: RunConfig) -> Path:
    """`runs/NAME-TIME` in the current folder, a name that is not taken."""
    return new_folder(re.sub(r"[^\w.-]+", "-", config.name or "run"))


def new_folder(name: str) -> Path:
    """`runs/NAME-TIME` in the current folder, with a number behind it where that is taken."""
    return untaken(Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}")


def untaken(base: Path) -> Path:
    """The path, with a number behind it where that is taken."""
    path, n = base, 1
    while path.exists():
        n += 1
        path = base.with_name(f"{base.name}-{n}")
    return path


def find_run(path: Path | str) -> Path:
    """The run folder that a path means: itself, or the folder of a file in it.

    Raises:
        FileError: no run there.
    """
    path = Path(path)
    for candidate in (path, path.parent, path.parent.parent):
        if (candidate / CONFIG).is_file() and (path.is_dir() or candidate != path):
            return candidate
    beside = [p.parent.name for p in path.parent.glob(f"*/{CONFIG}")]
    near = [str(path.with_name(name)) for name in nearest(path.name, beside)]
    asked = f"did you mean {' or '.join(near)}? " if near else ""
    raise FileError(
        "no run here",
        where=str(path),
        mend=f"{asked}a run folder holds config.yaml and checkpoints/; `hepml runs list` shows runs",
    )


def newest_run(name: str, root: Path = Path("runs")) -> Path | None:
    """The run of that config name that was touched last."""
    pattern = re.sub(r"[^\w.-]+", "-", name)
    runs = [p for p in root.glob(f"{pattern}-*") if (p / CONFIG).is_file()]
    return max(runs, key=lambda p: p.stat().st_mtime, default=None)


def finite(value: Any) -> Any:
    """The value with numpy numbers as Python's and NaN or infinity as null, which JSON has no word for."""
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    if isinstance(value, np.ndarray):
        return finite(value.tolist())
    if isinstance(value, np.generic):
        return finite(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
