"""hepml from Python: train from a config, open runs, score jets with them, and compare them.

The same functions are behind the commands; what a command prints is an attribute here.
"""

from __future__ import annotations

import base64
import copy
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from hepml import config as configs
from hepml import tracking
from hepml.data.batch import JetBatch
from hepml.errors import DataError, FileError
from hepml.evaluation.score_files import ScoreSheet, read_scores
from hepml.inference import prediction
from hepml.tracking.registry import describes_registered
from hepml.training.checkpoints import load_model
from hepml.training.progress import Progress
from hepml.training.run_config import RunConfig, check, compose
from hepml.training.run_directory import CONFIG

if TYPE_CHECKING:
    import pandas as pd
    from lightning.pytorch import Callback
    from matplotlib.figure import Figure

_LARGEST_PICTURE = 500_000  # bytes of a figure that a notebook is given


@dataclass(frozen=True, repr=False)
class Run:
    """A training run, as its folder tells. `hepml.train` and `hepml.open_run` give one.

    Args:
        path: the run folder.

    Examples:
        >>> run = hepml.train("quickstart", model="mlp", **{"training.epochs": 1, "data.max_jets": 400})
        >>> run.status, run.record.model, run.scores["generated"].labels.shape
        ('FINISHED', 'mlp', (400,))
    """

    path: Path

    @cached_property
    def record(self) -> tracking.Run:
        """Status, parameters, metrics and data sets as the journal has them."""
        return tracking.open_run(self.path)

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def status(self) -> str:
        """FINISHED, RUNNING, FAILED, KILLED or UNKNOWN."""
        return self.record.status

    @property
    def summary(self) -> dict[str, Any]:
        """What `summary.json` holds: `test` with accuracy, auc and rejection, `parameters`, `seconds`, …; {}
        while the run has not finished."""
        return self.record.summary

    @cached_property
    def config(self) -> dict[str, Any]:
        """The config that the run was trained with."""
        return dict(configs.read_yaml(self.path / CONFIG))

    def history(self) -> pd.DataFrame:
        """Losses, metrics, learning rate and speed of each epoch, one row an epoch."""
        import pandas as pd

        rows: dict[int, dict[str, float]] = {}
        for entry in tracking.read_journal(self.path).of("metrics"):
            values = {n: v for n, v in entry["values"].items() if "/" not in n}
            if "train_loss" in values or "val_loss" in values:
                rows[int(entry["step"])] = {"epoch": int(entry["step"]), **values}
        return pd.DataFrame([rows[epoch] for epoch in sorted(rows)])

    @cached_property
    def model(self) -> nn.Module:
        """The best checkpoint's model, in eval mode.

        Raises:
            FileError: the run has no checkpoint.
        """
        return load_model(self.path)

    @cached_property
    def scores(self) -> dict[str, ScoreSheet]:
        """Labels and scores of each test set, by its name.

        Raises:
            FileError: the run has scored no test set.
        """
        files = sorted((self.path / "scores").glob("*.npz"))
        if not files:
            raise FileError(
                "this run has no scores", where=str(self.path), mend="give the run test jets (data.test)"
            )
        return {file.stem: read_scores(file) for file in files}

    def predict(self, files_or_jets: Any, batch_size: int = 512, **options: Any) -> np.ndarray:
        """Class probabilities of jets, [N, C], in file order; see `hepml.predict`."""
        return predict(self.model, files_or_jets, batch_size, **options)

    def plot_roc(self, published: Sequence[str] = ()) -> Figure:
        """Background rejection against signal efficiency of the test sets, under the config's label.

        Args:
            published: taggers of `hepml.evaluation.published` to draw beside, by name.

        Raises:
            DataError: the run is a regression, or no test set has both signal and background.
        """
        from hepml.evaluation.multiclass import group_members, signal_against_background
        from hepml.evaluation.plots.labels import Label, labelled, put_label
        from hepml.evaluation.plots.scores import plot_roc
        from hepml.evaluation.plots.style import style
        from hepml.evaluation.published import published as published_rows

        reports = {"test": self.summary.get("test"), **(self.summary.get("tests") or {})}
        first = reports["test"] or {}
        curves = {}
        for name, sheet in self.scores.items():
            report = reports.get(name) or first
            if "signal" not in report:
                continue
            labels, scores, weights = signal_against_background(
                sheet.labels,
                sheet.scores,
                sheet.weights,
                classes=sheet.classes or self.summary.get("classes") or None,
                signal=group_members(report["signal"]),
                background=group_members(report["background"]),
            )
            if 0 < labels.sum() < len(labels):
                curves[f"{self.summary['model']} on {name}"] = (labels, scores, weights)
        if not curves:
            raise DataError(
                "no test set with signal and background",
                where=str(self.path),
                mend="a ROC curve needs jets of both",
            )
        rows = published_rows(names=list(published)) if published else ()
        figure = plot_roc(curves, title=f"{first['signal']} against {first['background']}", published=rows)
        settings = self.config.get("evaluation") or {}
        with (
            style(),
            labelled(Label(settings.get("label"), settings.get("energy"), settings.get("luminosity"))),
        ):
            put_label(figure)
        return figure

    def __repr__(self) -> str:
        lines = [f"Run {self.path} ({self.status})"]
        lines += [f"  {name:<10} {value}" for name, value in self._entries().items()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
            for name, value in self._entries().items()
        )
        picture = self.path / "plots" / "roc.png"
        drawn = ""
        if picture.is_file() and picture.stat().st_size < _LARGEST_PICTURE:
            code = base64.b64encode(picture.read_bytes()).decode()
            drawn = f'<img alt="background rejection" width="360" src="data:image/png;base64,{code}">'
        where = html.escape(str(self.path))
        return f"<div><b>Run</b> {where} ({self.status})<table>{rows}</table>{drawn}</div>"

    def _entries(self) -> dict[str, str]:
        test = self.record.test
        entries = {
            "model": self.record.model,
            "parameters": _number(self.summary.get("parameters"), ",d"),
            "epochs": _number(self.summary.get("epochs"), "d"),
            "accuracy": _number(test.get("accuracy"), ".4f"),
            "AUC": _number(test.get("auc"), ".4f"),
        }
        for point, value in (test.get("rejection") or {}).items():
            entries[f"1/eB at {point}"] = _number((value or {}).get("value"), ".4g")
        return {name: str(value) for name, value in entries.items() if value is not None}


def train(
    config: RunConfig | Mapping[str, Any] | Path | str,
    output: Path | str | None = None,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    callbacks: Sequence[Callback] = (),
    **overrides: Any,
) -> Run:
    """Trains a model and returns its run.

    Args:
        config: a YAML file, the name of a shipped config, a mapping of the same form, or a checked
            `RunConfig`.
        output: run folder; the config's, else `runs/NAME-TIME`.
        resume: go on with the run in that folder.
        progress: told what happens.
        callbacks: Lightning callbacks, told of every step and epoch behind the run's own callback; they may
            monitor `val_loss`, `val_auc`, `val_accuracy`.
        overrides: config keys that go before the config's own, as `**{"training.epochs": 1, "model": "mlp"}`.

    Raises:
        HepmlError: what the user can mend: files, config, jets, a full disk.

    Examples:
        >>> from lightning.pytorch.callbacks import LambdaCallback
        >>> steps = []
        >>> count = LambdaCallback(on_train_batch_end=lambda *step: steps.append(step[-1]))
        >>> keys = {"training.epochs": 1, "training.batch_size": 200, "data.max_jets": 400}
        >>> run = hepml.train("quickstart", model="mlp", callbacks=[count], **keys)
        >>> len(run.history()), steps
        (1, [0, 1])
    """
    from hepml.training import run as training_run
    from hepml.training.run_directory import RunDirectory, default_output

    checked = _checked(config, overrides)
    folder = Path(output or checked.output or default_output(checked))
    training_run.train(checked, folder, resume=resume, progress=progress, callbacks=callbacks)
    return Run(RunDirectory(folder).path)


def open_run(run: Path | str) -> Run:
    """A run by its folder, its name, or an unambiguous beginning of its folder's name below `runs/`.

    Raises:
        TrackingError: no such run; names the nearest.

    Examples:
        >>> run = hepml.train("quickstart", model="mlp", **{"training.epochs": 1, "data.max_jets": 400})
        >>> hepml.open_run(run.path).summary["epochs"]
        1
    """
    return Run(tracking.open_run(run).path)


def predict(
    model: nn.Module | Run | Path | str,
    files_or_jets: Any,
    batch_size: int = 512,
    *,
    mask: Any = None,
    columns: Mapping[str, Any] | None = None,
    jet_momenta: Any = None,
    layout: Any = None,
    jets: str | None = None,
    device: str | None = None,
) -> np.ndarray:
    """Class probabilities (or mean and sigma of a regression), in the order of the jets.

    A jet has one score, whichever way it is given.

    Args:
        model: a model, a run, or the path of a run, a checkpoint or published weights.
        files_or_jets: files (a path, a glob, a folder, a list of those), awkward jets from `hepml.read_jets`,
            a `JetBatch`, or padded four-momenta [N, M, 4] as (E, px, py, pz) in GeV.
        batch_size: jets a step.
        mask: [N, M] true where a padded array has a constituent; where a four-momentum is not zero, if left
            out.
        columns: further constituent columns of padded arrays by name, [N, M] each.
        jet_momenta: [N, 4] the jets' own momenta beside padded arrays; sums of constituents where left out.
        layout: of the files; what the model was trained with, or recognised, where left out.
        jets: the jet collection of event files.
        device: where to compute; where the model is, by default.

    Returns:
        [N, C] float array: probabilities of the classes; [N, 2 T] (mean, sigma) in turn for a regression. A
        jet in a file that cannot be scored has a row of NaN, so that rows and jets stay in step.

    Raises:
        FileError, LayoutError, DataError: see `hepml.data`; awkward jets with NaN momenta are refused.

    Examples:
        >>> model = hepml.models.create("pfn")
        >>> hepml.predict(model, "data/toptag/test.root").shape
        (3000, 2)
    """
    if isinstance(model, Run):
        model = model.model
    elif not isinstance(model, nn.Module):
        model = load_model(_run_or_file(model), device=device or "cpu")
    given = files_or_jets
    if mask is not None or (not isinstance(given, JetBatch) and getattr(given, "ndim", 0) == 3):
        given = _from_padded(given, mask, columns, jet_momenta)
    elif columns is not None or jet_momenta is not None:
        raise DataError("columns and jet_momenta belong to padded arrays", mend="give them with the jets")
    return prediction.predict(model, given, batch_size, layout=layout, jets=jets, device=device)


def leaderboard(runs: Iterable[Run | Path | str] | Path | str = "runs") -> pd.DataFrame:
    """Test results side by side, one row a run, the best AUC first.

    Args:
        runs: runs or their folders; or one folder that holds runs.

    Raises:
        TrackingError: no such run.

    Examples:
        >>> run = hepml.train("quickstart", model="mlp", **{"training.epochs": 1, "data.max_jets": 400})
        >>> hepml.leaderboard([run])["model"].tolist()
        ['mlp']
    """
    import pandas as pd

    if isinstance(runs, str | Path):
        records = [Run(record.path) for record in tracking.list_runs(runs)]
    else:
        records = [run if isinstance(run, Run) else open_run(run) for run in runs]
    rows = []
    for run in records:
        test = run.record.test
        points = {
            f"rejection_{point}": (value or {}).get("value")
            for point, value in (test.get("rejection") or {}).items()
        }
        rows.append(
            {
                "run": run.path.name,
                "model": run.record.model,
                "parameters": run.summary.get("parameters"),
                "accuracy": test.get("accuracy"),
                "auc": test.get("auc"),
                "auc_error": test.get("auc_error"),
                **points,
                "epochs": run.summary.get("epochs"),
                "seconds": run.summary.get("seconds"),
                "status": run.status,
            }
        )
    columns = ["run", "model", "parameters", "accuracy", "auc", "auc_error", "epochs", "seconds", "status"]
    table = pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)
    return table.sort_values("auc", ascending=False, kind="stable", ignore_index=True)


# ------------------------------------------------------------------------------------------------------------
# helpers


def _checked(config: RunConfig | Mapping[str, Any] | Path | str, overrides: Mapping[str, Any]) -> RunConfig:
    words = [f"{key}={json.dumps(value, default=_plain)}" for key, value in overrides.items()]
    if isinstance(config, RunConfig):
        return check(compose(config.model_dump(exclude_unset=True), words)) if words else config
    return check(compose(copy.deepcopy(dict(config)) if isinstance(config, Mapping) else config, words))


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _run_or_file(place: Path | str) -> Path | str:
    """A path as it is where there is something, else the run of that name below `runs/`."""
    if Path(place).exists() or describes_registered(place):
        return place
    by_name = Path("runs") / place
    return by_name if by_name.is_dir() else place


def _from_padded(four_momenta: Any, mask: Any, columns: Any, jet_momenta: Any) -> JetBatch:
    p = np.asarray(four_momenta)
    if p.ndim != 3 or p.shape[2] != 4:
        raise DataError(
            f"padded four_momenta have shape {p.shape}", mend="give [N, M, 4] as (E, px, py, pz) in GeV"
        )
    inside = (p != 0).any(axis=2) if mask is None else mask
    return JetBatch.from_padded(p, inside, columns=columns, jet_momenta=jet_momenta)


def _number(value: Any, form: str) -> str | None:
    return None if value is None else format(value, form)
