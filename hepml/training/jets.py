"""The jets of a run: training, validation and test sets opened from the config, split where it asks for
shares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from hepml import paths
from hepml.data.build import Request
from hepml.data.dataset import JetDataset
from hepml.data.inputs import Inputs
from hepml.data.jet_columns import DERIVED, derived_array
from hepml.data.layouts.event_layout import with_jets
from hepml.data.parts import Part, fold_parts, split
from hepml.data.reading.layouts import Layout
from hepml.data.sampling.asked import parse_reweighting
from hepml.data.sampling.group_weights import GroupWeights
from hepml.data.sampling.reweighting import Reweighting
from hepml.data.sampling.samples import Sample, files_of, parse_samples
from hepml.data.shards import StreamedJets
from hepml.errors import ConfigError, DataError, FileError, LayoutError
from hepml.training.data_config import DataConfig, Source

FOLD = "fold"  # the test set that the part left out of a training makes
HELD_OUT = 0.1  # share of the training jets that validates where the config names no validation jets


@dataclass
class RunJets:
    """The data sets of a run.

    Args:
        train, val: data sets or parts of one.
        tests: by name, the first is the run's `test`.
        notes: lines worth telling.
        copies: how many of the training jets, the last ones, are changed copies of the others.
        leaks: lines on given weights that have seen jets which this run scores, and on inputs that tell a
            class.
        own_balance: whether the weights say how much each class counts, so that nothing else balances them.
        collection: the jet collection that the training jets were read from, of files of events.
    """

    train: Any
    val: Any
    tests: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    own_balance: bool = False
    copies: int = 0
    leaks: list[str] = field(default_factory=list)
    collection: str = ""

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.train.classes or ())


def open_jets(
    settings: DataConfig,
    inputs: Inputs,
    message: Callable[[str], None] = lambda text: None,
    *,
    labels: bool = True,
) -> RunJets:
    """Opens the jets of a run.

    Args:
        settings: the `data` block.
        inputs: what the model asks for.
        message: told what was read.
        labels: False for jets whose labels, if there are any, are not read.

    Raises:
        FileError, LayoutError, DataError: see `hepml.data`.
        DataError: training jets of one class only.
    """

    def read(files: Source, classes: Sequence[str] | None = None, test: bool = False) -> JetDataset:
        out: JetDataset = open_dataset(settings, files, inputs, classes, test=test, labels=labels)
        return out

    _say_how_to_get(settings)
    reweighting = _reweighting_of(settings)
    groups = isinstance(reweighting, GroupWeights)
    extra = tuple(n for n in (reweighting.columns if reweighting else ()) if groups or n not in DERIVED)
    whole = open_training(settings, inputs, jet_columns=extra, labels=labels)
    message(f"train: {whole.report}")
    if settings.samples and settings.train:
        message("data.samples take the place of data.train")
    if groups and settings.class_weights is not None:
        message("data.class_weights are left out: the reweighting's groups say what each class counts")
    classes = tuple(whole.classes or ()) or None
    shares: dict[str, float] = {}
    jets = RunJets(whole, None, collection=whole.report.collection)
    if jets.collection:  # the others are of the same, whatever would be found in their files
        settings = settings.model_copy(update={"jets": jets.collection})
    kept: JetDataset | Part = whole
    left_out: Part | None = None
    if settings.folds is not None:
        parts = fold_parts(whole, settings.folds, settings.split_seed)
        left_out = parts.pop(settings.fold)
        kept = jets.train = Part(whole, np.sort(np.concatenate([part.indices for part in parts])))
        message(f"fold {settings.fold} of {settings.folds} is not trained on: {len(left_out):,} jets")
    val = settings.val if settings.val is not None else HELD_OUT
    if isinstance(val, float):
        shares["val"] = val
    else:
        jets.val = read(val, classes)
        message(f"val: {jets.val.report}")
    for name, source in settings.tests().items():
        if isinstance(source, float):
            shares[name], jets.tests[name] = source, None
        else:
            jets.tests[name] = read(source, classes, test=True)
            message(f"{name}: {jets.tests[name].report}")
    for name, source in settings.absent().items():
        how = settings.obtain.get(name)
        message(f"{name}: not scored, {source} is not here" + (f"; to have it: {how}" if how else ""))
    if shares:
        shared = split(kept, shares, settings.split_seed)
        jets.train = shared.pop("train")
        if "val" in shares and jets.val is None:
            jets.val = shared.pop("val")
        jets.tests.update(shared)
        held = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
        how = "" if getattr(kept, "events", None) is None else "whole events, "
        message(f"held out of the training jets: {held} ({how}split_seed {settings.split_seed})")
    if left_out is not None:
        if FOLD in jets.tests:
            raise ConfigError(
                f"a test set is called '{FOLD}', which is the name of the part that data.folds leaves out",
                where="data.test",
                mend="give it another name",
            )
        jets.tests[FOLD] = left_out
    if settings.train_share is not None:
        # of one permutation, so that a smaller share is a part of a larger one
        jets.train = split(jets.train, {"left out": 1 - settings.train_share}, settings.split_seed)["train"]
        message(f"trained on {settings.train_share:.3%} of them: {len(jets.train):,} jets")
    if settings.target is None and labels:
        _check_classes(jets)
    if reweighting is not None and not labels:
        message("pretraining reads no labels: jets are not reweighted")
    elif reweighting is not None:
        if settings.target is not None and not groups:
            raise ConfigError(
                "reweighting brings the spectra of classes together, and data.target has none",
                where="data.reweight",
                mend="leave it out, or weight jets by a column (data.weights: NAME)",
            )
        _reweight(jets, reweighting, message)
        jets.own_balance = groups
    return jets


def _reweighting_of(settings: DataConfig) -> Reweighting | GroupWeights | None:
    """How training jets are reweighted: as the config says, else as the layout does."""
    value, key = settings.reweight, "data.reweight"
    layout = layout_of(settings)
    if value is None and layout is not None and layout.reweight:
        value, key = dict(layout.reweight), "layout.reweight"
    if not value:
        return None
    return parse_reweighting(value, key)


def layout_of(settings: DataConfig) -> Layout | None:
    """The layout that the `data` block names; None where it is recognised."""
    named = with_jets(settings.layout, settings.jets)
    return None if named is None else Layout.parse(named)


def _selection_of(settings: DataConfig, test: bool) -> str | None:
    """What the config and the layout ask of a jet."""
    layout = layout_of(settings)
    of_layout = None if layout is None else layout.selection
    if test and layout is not None and layout.test_selection:
        of_layout = layout.test_selection
    both = [s for s in (settings.selection, of_layout) if s]
    return both[0] if len(both) == 1 else " & ".join(f"({s})" for s in both) or None


def _reweight(jets: RunJets, reweighting: Reweighting | GroupWeights, message: Callable[[str], None]) -> None:
    """Gives the training jets the weights that bring their spectra together; others keep theirs."""
    part = jets.train if isinstance(jets.train, Part) else Part(jets.train, np.arange(len(jets.train)))
    whole = part.whole
    columns = {}
    for name in reweighting.columns:
        if name in whole.jet_columns:
            columns[name] = np.asarray(whole.jet_columns[name])
        elif name in DERIVED and whole.jet_momenta is not None:
            columns[name] = derived_array(name, whole.jet_momenta.numpy(), whole.counts)
        else:
            raise LayoutError(f"data.reweight needs jet column '{name}'", mend="name a column of the files")
    own = None if whole.weights is None else whole.weights.numpy()
    factors = reweighting.factors(columns, np.asarray(whole.labels), jets.classes, own, part.indices)
    outside = int((factors[part.indices] == 0).sum())
    weights = torch.from_numpy((factors if own is None else factors * own).astype(np.float32))
    jets.train = Part(replace(whole, weights=weights), part.indices)
    edges = reweighting.edges if isinstance(reweighting, GroupWeights) else reweighting.columns
    where = f"{outside:,} jets outside the bins" + (" or groups" if edges is not reweighting.columns else "")
    where += f" or in bins where {reweighting.to} has none" if reweighting.to in jets.classes else ""
    missing = sum(~np.isfinite(columns[n][part.indices]) for n in edges)
    if np.any(missing):
        where += f", {np.count_nonzero(missing):,} of them NaN,"
    message(f"training jets reweighted in {', '.join(edges)} to {reweighting.to}; {where} weigh 0")
    if isinstance(reweighting, Reweighting):
        lacking = reweighting.lacking(columns, np.asarray(whole.labels), jets.classes, part.indices)
        if lacking:
            message(
                f"data.reweight: some classes have no training jets in bins that others fill ({lacking}): "
                "spectra differ there; widen the edges"
            )


def _say_how_to_get(settings: DataConfig) -> None:
    """Refuses absent jets with the config's own word on where to get them."""
    for key in ("train", "val"):
        source = getattr(settings, key)
        if key in settings.obtain and isinstance(source, str | list) and not paths.is_there(source):
            raise FileError(
                f"no jets at {source} (data.{key}; {paths.describe_data_path()})",
                mend=f"get them: {settings.obtain[key]}",
            )


def open_training(
    settings: DataConfig,
    inputs: Inputs,
    classes: Sequence[str] | None = None,
    *,
    jet_columns: Sequence[str] = (),
    labels: bool = True,
) -> Any:
    """All training jets, of `data.train` or of `data.samples`, before any are held out; see `open_dataset`.

    Raises:
        ConfigError: neither is given.
    """
    samples = parse_samples(settings.samples) if settings.samples else ()
    if not samples and not settings.train:
        raise ConfigError("no training jets", where="data.train", mend="give data.train or data.samples")
    files = files_of(samples) if samples else settings.train
    return open_dataset(
        settings, files, inputs, classes, samples=samples, jet_columns=jet_columns, labels=labels
    )


def open_dataset(
    settings: DataConfig,
    files: Source,
    inputs: Inputs,
    classes: Sequence[str] | None = None,
    *,
    labels: bool = True,
    samples: Sequence[Sample] = (),
    jet_columns: Sequence[str] = (),
    test: bool = False,
) -> Any:
    """Jets of one source as the `data` block wants them.

    Args:
        settings: the `data` block.
        files: the source.
        inputs: what is read of each jet.
        classes: those of the training jets, where the block names none.
        labels: False for jets whose labels are not read; weights are then left out too.
        samples: that the files belong to.
        jet_columns: jet columns to keep.
        test: whether these are test jets, for which a layout may have a selection of its own.
    """
    named = settings.classes if settings.classes is not None else classes
    asked: dict[str, Any] = {
        "inputs": inputs,
        "layout": with_jets(settings.layout, settings.jets),
        "classes": named if labels else None,
        "target": settings.target if labels else None,
        "weights": settings.weights if labels else False,
        "selection": _selection_of(settings, test),
        "max_jets": settings.max_jets,
        "missing_columns": settings.missing_columns,
        "labels": labels,
        "samples": tuple(samples),
        "jet_columns": jet_columns,
    }
    if settings.stream:
        _refuse_beside_streaming(settings)
        return StreamedJets.open(files, Request(**asked))
    return JetDataset.open(files, cache=settings.cache, **asked)


def _refuse_beside_streaming(settings: DataConfig) -> None:
    """Refuses what needs all jets at hand.

    Raises:
        ConfigError: names the setting.
    """
    for name, mend in (
        ("cache", "a cache is read in bounded memory as it is: leave out data.stream"),
        ("reweight", "pack the jets with data.cache instead of streaming them"),
    ):
        if getattr(settings, name):
            raise ConfigError(
                f"data.{name} and data.stream do not go together", where=f"data.{name}", mend=mend
            )


def _check_classes(jets: RunJets) -> None:
    labels = jets.train.labels
    if labels is None:
        raise DataError(
            "the training jets have no labels",
            mend="use files with label branches, or give data.target to regress a column",
        )
    present, absent = _present(jets.classes, labels)
    if len(present) < 2:
        only = f"only of class '{present[0]}'" if present else "of no class"
        report = jets.train.report
        many = sum(1 for n in report.classes.values() if n) if report is not None else 0
        told = report is not None and many < 2 and (report.kept < report.read or report.notes)
        lost = f" ({report})" if told else ""
        raise DataError(
            f"the training jets are {only}{lost}",
            mend="add files of the other classes, or choose data.classes",
        )
    if absent:
        jets.notes.append(f"no training jets of class {', '.join(absent)}")


def check_tests(jets: RunJets) -> None:
    """Refuses test jets of one class before a training instead of after it.

    Raises:
        DataError: names the test set and the class.
    """
    for name, tested in jets.tests.items():
        if tested is None or tested.labels is None or not len(tested):
            continue
        present, _ = _present(jets.classes, tested.labels)
        if len(present) == 1:
            raise DataError(
                f"all {len(tested):,} test jets '{name}' are of class '{present[0]}'",
                where="data.test",
                mend="a ROC needs two classes: add files, hold out a larger share, or data.test=null",
            )


def _present(classes: Sequence[str], labels: ArrayLike) -> tuple[list[str], list[str]]:
    """The classes that have jets, and those that have none."""
    counts = np.bincount(np.asarray(labels), minlength=len(classes))
    return (
        [name for name, count in zip(classes, counts, strict=False) if count],
        [name for name, count in zip(classes, counts, strict=False) if not count],
    )
