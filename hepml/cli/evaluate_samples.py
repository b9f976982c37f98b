"""The samples of `hepml evaluate`: labels and scores out of score files, of the test jets of runs, or of
jets that are scored now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Sample(NamedTuple):
    """What one report is made of: labels [N], scores [N] or [N, C], weights [N] or None, class names or
    None, and the jets' `pt` and `eta` [N] where the jets themselves were scored."""

    labels: Any
    scores: Any
    weights: Any
    classes: Sequence[str] | None
    jets: Any = None


def from_scores(paths: list[str]) -> dict[str, Sample]:
    """The scores in files, one sample a tagger."""
    from hepml.evaluation.score_files import read_scores

    samples: dict[str, Sample] = {}
    for path in paths:
        sheet = read_scores(path)
        for tagger, values in sheet.taggers.items():
            name = tagger if tagger not in samples else f"{Path(path).stem}: {tagger}"
            samples[name] = Sample(sheet.labels, values, sheet.weights, sheet.classes)
    return samples


def is_run(word: str) -> bool:
    """Whether a word names the folder of a run that left scores."""
    return (Path(word) / "scores").is_dir() and (Path(word) / "checkpoints").is_dir()


def refuse_taggers(words: list[str]) -> None:
    """Refuses a tagger where jets belong, before anything is loaded.

    Raises:
        ConfigError: names it, and how several taggers are measured on the same jets.
    """
    from hepml.errors import ConfigError
    from hepml.training.checkpoints import EXPORTED

    for word in words:
        if is_run(word) or word.startswith("models:/") or Path(word).suffix in (*EXPORTED, ".ckpt"):
            raise ConfigError(
                f"'{word}' is a tagger, not jets",
                where="command line",
                mend="to measure several on the same jets: hepml predict TAGGER FILES -o NAME.npz for each, "
                "then hepml evaluate --scores ONE.npz --scores OTHER.npz",
            )


def from_runs(runs: list[str]) -> dict[str, Sample]:
    """The test scores of several runs, named by run and, where there are several, by test set."""
    from hepml.training.checkpoints import load_model

    short = {run: Path(run).resolve().name for run in runs}
    if len(set(short.values())) < len(runs):
        short = {run: run for run in runs}
    samples: dict[str, Sample] = {}
    for run in runs:
        own = from_run(load_model(run), run)
        for test, sample in own.items():
            samples[short[run] if len(own) == 1 else f"{short[run]}: {test}"] = sample
    return samples


def from_run(model: Any, run: str) -> dict[str, Sample]:
    """The test scores that a training run left."""
    from hepml.errors import ConfigError
    from hepml.evaluation.score_files import read_scores
    from hepml.models.identity import identity_of

    paths = sorted((Path(run) / "scores").glob("*.npz"))
    if not paths:
        raise ConfigError(
            "no jets to score", where="command line", mend=f"name files: hepml evaluate {run} FILES"
        )
    classes = identity_of(model).classes or None
    samples = {}
    for path in paths:
        sheet = read_scores(path)
        values = next(iter(sheet.taggers.values()))
        samples[path.stem] = Sample(sheet.labels, values, sheet.weights, sheet.classes or classes)
    return samples


def from_files(
    model: Any,
    run: str,
    files: list[str],
    layout: str | None,
    batch_size: int,
    device: str | None,
    unweighted: bool,
    quiet: bool,
) -> dict[str, Sample]:
    """Scores the jets of each sample as the run scored its own test jets: the same layout, classes, selection
    and weights."""
    import numpy as np
    import torch

    from hepml.cli import console
    from hepml.cli.evaluate_words import named_of
    from hepml.data.dataset import JetDataset
    from hepml.data.loader import JetLoader
    from hepml.errors import DataError
    from hepml.inference.prediction import reads_files, score_dataset
    from hepml.models.identity import identity_of

    if reads_files(model):
        return _from_columns(model, files, layout, batch_size, unweighted, quiet)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model.to(where)
    data = _data_of(run)
    classes = data.get("classes") or identity_of(model).classes or None
    layout = layout or data.get("layout") or identity_of(model).layout
    samples: dict[str, Sample] = {}
    for name, paths in named_of(files, identity_of(model).name or "model").items():
        dataset = JetDataset.open(
            paths, model.inputs, layout=layout, classes=classes,
            target=data.get("target"),
            weights=False if unweighted else data.get("weights"), selection=data.get("selection"),
            missing_columns=data.get("missing_columns"),
        )  # fmt: skip
        if dataset.labels is None:
            raise DataError(
                "the jets have no labels", where=name, mend="hepml predict scores jets without labels"
            )
        if not quiet:
            console.err().print(f"{name}: {dataset.report}", markup=False, style="dim")
        with console.CountingBar("jets", len(dataset), quiet=quiet) as bar:
            rows = score_dataset(
                model, dataset, JetLoader(dataset, batch_size), device=where, tell=bar.update
            )
        weights = None if dataset.weights is None else np.asarray(dataset.weights, dtype=np.float64)
        own = tuple(dataset.classes) or None
        samples[name] = Sample(np.asarray(dataset.labels), rows, weights, own, _kinematics(dataset))
    return samples


def _from_columns(
    model: Any, files: list[str], layout: str | None, batch_size: int, unweighted: bool, quiet: bool
) -> dict[str, Sample]:
    """Scores of a network that reads columns of files itself: an experiment's own."""
    from hepml.cli import console
    from hepml.cli.evaluate_words import named_of

    samples: dict[str, Sample] = {}
    for name, paths in named_of(files, model.hepml_name).items():
        with console.CountingBar("jets", model.count(paths, layout), quiet=quiet) as bar:
            scored = model.labelled(paths, batch_size, layout=layout, tell=bar.update)
        if not quiet and scored.unlabelled:
            console.err().print(f"{name}: {scored.unlabelled} jets of no class left out", markup=False)
        weights = None if unweighted else scored.weights
        samples[name] = Sample(scored.labels, scored.scores, weights, model.hepml_classes, scored.kinematics)
    return samples


def _kinematics(dataset: Any) -> dict[str, Any]:
    """pT and eta of the sum of each jet's constituents; what has no direction has eta 0."""
    import torch

    from hepml import kinematics

    counts = dataset.offsets.diff()
    jet_of = torch.repeat_interleave(torch.arange(len(counts)), counts)
    sums = torch.zeros((len(counts), 4), dtype=torch.float64)
    sums.index_add_(0, jet_of, torch.as_tensor(dataset.four_momenta).double())
    return {"pt": kinematics.pt(sums).numpy(), "eta": torch.nan_to_num(kinematics.eta(sums)).numpy()}


def _data_of(run: str) -> dict[str, Any]:
    """The `data` block that the model was trained with; empty for published weights."""
    identity = checkpoint_identity(run)
    data = (identity.get("config") or {}).get("data") or {}
    return {**data, "target": identity.get("target")}


def checkpoint_identity(run: str) -> dict[str, Any]:
    """What a checkpoint says about itself; empty for published weights and for exported files."""
    from hepml.tracking.registry import describes_registered
    from hepml.training.checkpoints import EXPORTED, find_checkpoint, read_checkpoint

    if Path(run).suffix in EXPORTED or describes_registered(run):
        return {}
    identity: dict[str, Any] = read_checkpoint(find_checkpoint(run)).get("hepml") or {}
    return identity
