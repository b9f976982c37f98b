"""Distillation: a small model learns the scores that a better one gives the same jets.

Softened probabilities of a teacher say more of a jet than its label does (arXiv:1503.02531), and a teacher
that knows a symmetry hands it on (arXiv:2311.14160). Scores are computed once and kept in a cache that knows
each jet by its content, so that another run, a part of the jets or another student finds them again. Jets
without labels are welcome, and what an augmentation makes of a jet keeps the jet's score: how far the teacher
itself would disagree is measured and told.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hepml.data.batch import JetBatch
from hepml.data.dataset import JetDataset
from hepml.data.inputs import Inputs
from hepml.data.parts import Part
from hepml.errors import ConfigError, DataError
from hepml.objectives import Objective
from hepml.training import augmentation
from hepml.training.copies import as_read, changed_copies, summary
from hepml.training.jets import RunJets, open_dataset, open_training
from hepml.training.progress import Progress
from hepml.training.recipe_config import DistillConfig
from hepml.training.run_config import RunConfig
from hepml.training.teacher_cache import Cache, jet_keys
from hepml.training.teachers import Tutor, open_teacher

CHUNK = 2_000  # jets scored between two messages
KEPT_EVERY = 60.0  # seconds of scoring that a killed run loses at most, and the chunk in work
CHECKED = 8  # scores of a cache that are computed again before it is believed
SAME = 1e-3  # in probability, what machines and versions of libraries differ by at most
SAMPLE = 64  # jets on which the teacher's answer to augmentations is measured


@dataclass(frozen=True)
class Targets:
    """What the teachers say of the training jets, looked up by `JetBatch.index`.

    Args:
        log_probabilities: [N, C] of the jets in the training data set, NaN for those that are not trained on.
        temperature, hard_labels, weighted: see `DistillConfig`.
    """

    log_probabilities: Tensor
    temperature: float
    hard_labels: float
    weighted: bool = False

    def loss(self, objective: Objective, parameters: Tensor, batch: JetBatch) -> Tensor:
        """The distillation loss of each jet, [B]: (1 - h) T^2 H(teacher_T, student_T) + h (-ln q(label)).

        A jet without a label (-1) has no second term, and its first one counts whole.
        """
        assert batch.index is not None
        known = self.log_probabilities[batch.index.to(self.log_probabilities.device)].to(parameters)
        logits = parameters if objective.name == "categorical" else F.pad(parameters, (1, 0))
        teacher = torch.softmax(known / self.temperature, dim=-1)
        student = torch.log_softmax(logits / self.temperature, dim=-1)
        soft = -(self.temperature**2) * (teacher * student).sum(dim=-1)
        if not self.hard_labels or batch.labels is None:
            return soft
        labelled = batch.labels >= 0
        hard = objective.negative_log_likelihood(parameters, batch.labels.clamp_min(0))
        share = torch.where(labelled, self.hard_labels, 0.0).to(soft)
        return (1 - share) * soft + share * hard


def prepare(
    config: RunConfig, jets: RunJets, inputs: Inputs, objective: Objective, progress: Progress
) -> Targets | None:
    """The teachers' scores of the training jets, None where the config distils nothing; unlabelled jets join
    `jets.train`.

    Args:
        config: the run's.
        jets: the run's, opened for `inputs`.
        inputs: what the student reads.
        objective: the student's.
        progress: told what happens.

    Raises:
        ConfigError: a regression, or a teacher of other classes.
        DataError: a jet that a teacher has no finite score for.
    """
    settings = config.distill
    if settings is None:
        return None
    if objective.task != "classification":
        raise ConfigError("distill is for classification", where="distill", mend="leave out data.target")
    labelled, further = jets.train, None
    if settings.unlabelled is not None:
        further = _open_unlabelled(config, labelled, inputs)
        progress.message(f"unlabelled: {further.report}")
        jets.train = join(labelled, further)
    copies = None
    if settings.copies is not None:
        whole = jets.train
        if inputs.max_constituents is not None:
            whole = _reopened(config, labelled, further, Inputs(), "the copies")
        copies = changed_copies(whole.batch(np.arange(len(whole))), settings.copies)
        jets.copies = len(copies)
        progress.message(summary(len(jets.train), settings.copies))
        jets.train = join(jets.train, JetDataset.from_batch(as_read(copies, inputs)))
    total, weights = None, 0.0
    for teacher in settings.teachers:
        tutor = open_teacher(teacher, jets.classes)
        if tutor.remark:
            progress.message(tutor.remark)
        dataset = jets.train
        if not tutor.can_read(inputs):
            dataset = _reopened(config, labelled, further, tutor.inputs, f"the teacher {tutor.name}")
            if copies is not None:
                dataset = join(dataset, JetDataset.from_batch(as_read(copies, tutor.inputs)))
        rows = _scores(tutor, dataset, settings, progress)
        check_against_labels(tutor, rows, np.asarray(jets.train.labels), jets.classes, progress)
        scores = teacher.weight * rows
        total = scores if total is None else total + scores
        weights += teacher.weight
        _tell_symmetries(tutor, dataset, config.training.augment, progress)
    assert total is not None
    which = indices_of(jets.train)
    rows = np.full((int(which.max()) + 1, total.shape[1]), np.nan, dtype=np.float32)
    rows[which] = total / weights
    return Targets(torch.from_numpy(rows), settings.temperature, settings.hard_labels, settings.weights)


def indices_of(dataset: Any) -> np.ndarray:
    """The values of `JetBatch.index` that the jets of a data set or of a part of one have, in order."""
    if not isinstance(dataset, Part):
        return np.arange(len(dataset))
    out: np.ndarray = indices_of(dataset.whole)[dataset.indices]
    return out


def root_of(dataset: Any) -> JetDataset:
    """The data set that a part, or a part of a part, was taken of."""
    return root_of(dataset.whole) if isinstance(dataset, Part) else dataset


def join(labelled: Any, further: JetDataset) -> JetDataset:
    """Labelled jets and, behind them, jets without labels, whose label is -1 and whose weight is one."""
    first, second = labelled.batch(np.arange(len(labelled))), further.batch(slice(None))
    classes = labelled.classes

    def both(name: str) -> Tensor | None:
        a, b = getattr(first, name), getattr(second, name)
        return None if a is None or b is None else torch.cat((a, b))

    momenta = both("four_momenta")
    assert momenta is not None
    if (first.jet_momenta is None) != (second.jet_momenta is None):
        raise DataError(
            "some of the training and unlabelled jets have the jet's own momentum in the file, some have not",
            mend="use files of one layout",
        )
    weights = first.weights
    if weights is not None:
        weights = torch.cat((weights, torch.ones(len(second), dtype=weights.dtype)))
    labels = torch.cat((first.labels, torch.full((len(second),), -1, dtype=first.labels.dtype)))
    joined = JetBatch(
        four_momenta=momenta,
        offsets=torch.cat((first.offsets, first.offsets[-1] + second.offsets[1:])),
        features=both("features"),
        feature_names=first.feature_names,
        jet_features=both("jet_features"),
        jet_feature_names=first.jet_feature_names,
        labels=labels,
        weights=weights,
        jet_momenta=both("jet_momenta"),
        extras={name: torch.cat((view, second.extras[name])) for name, view in first.extras.items()},
        collections={
            name: JetBatch.concatenate([beside, second.collections[name]])
            for name, beside in first.collections.items()
        },
    )
    return JetDataset.from_batch(joined, classes)


# ------------------------------------------------------------------------------------------------------------
# scores, kept by content


def _reopened(
    config: RunConfig, labelled: Any, further: JetDataset | None, inputs: Inputs, reader: str
) -> Any:
    """The training and unlabelled jets with other inputs, in the order in which the student has them."""
    whole = open_training(config.data, inputs, labelled.classes)
    _refuse_other_jets(root_of(labelled), whole, reader)
    own = Part(whole, indices_of(labelled))
    if further is None:
        return own
    beside = _open_unlabelled(config, labelled, inputs)
    _refuse_other_jets(further, beside, reader)
    return join(own, beside)


def _open_unlabelled(config: RunConfig, labelled: Any, inputs: Inputs) -> JetDataset:
    """The unlabelled jets: of the training jets' collection, whatever would be found in their files."""
    assert config.distill is not None
    assert config.distill.unlabelled is not None
    data, collection = config.data, root_of(labelled).report.collection
    if collection:
        data = data.model_copy(update={"jets": collection})
    out: JetDataset = open_dataset(data, config.distill.unlabelled, inputs, labels=False)
    return out


def _refuse_other_jets(known: JetDataset, other: JetDataset, reader: str) -> None:
    """Refuses files of which a reader with other inputs keeps other jets than the student."""
    same = known.entries is None or other.entries is None or np.array_equal(known.entries, other.entries)
    if len(other) != len(known) or not same:
        raise DataError(
            f"{len(known):,} jets are fit for the student, {len(other):,} for {reader}"
            + ("" if len(other) != len(known) else ", and they are not the same"),
            where="distill.teacher",
            mend="leave out those that `hepml inspect` calls bad, with data.selection",
        )


def _scores(tutor: Tutor, dataset: Any, settings: DistillConfig, progress: Progress) -> np.ndarray:
    """Log-probabilities of a data set's jets by one teacher in the order of the run's classes, [N, C]: those
    that the cache has from there."""
    cache = Cache(settings.cache, tutor.digest)

    def waiting() -> None:
        progress.message(f"teacher {tutor.name}: another run scores jets with it, waiting for {cache.lock}")

    with cache.locked(waiting):  # several ranks, or runs, want the same scores: one computes them
        keys = np.concatenate([jet_keys(dataset.batch(part), tutor) for part in _pieces(len(dataset))])
        known, rows = cache.find(keys)
        if known.any() and rows is not None:
            if _still_true(tutor, dataset, np.flatnonzero(known), rows, settings.batch_size):
                progress.message(f"teacher {tutor.name}: {int(known.sum()):,} scores from {cache.path}")
            else:
                cache.forget()
                known[:] = False
                progress.message(
                    f"teacher {tutor.name}: the scores in {cache.path} are not what it gives now, as after a "
                    "change of hepml; they are computed again"
                )
        absent, begun, kept, saved = np.flatnonzero(~known), 0, True, time.monotonic()
        for part in _pieces(len(absent)):
            scored = tutor.log_probabilities(dataset.batch(absent[part]), settings.batch_size)
            rows = np.zeros((len(keys), scored.shape[1]), np.float32) if rows is None else rows
            rows[absent[part]] = scored
            end = int(part[-1]) + 1
            progress.scoring(f"teacher {tutor.name}", end, len(absent))
            if end == len(absent) or time.monotonic() - saved > KEPT_EVERY:
                fresh = absent[begun:end]
                kept, begun, saved = cache.add(keys[fresh], rows[fresh]), end, time.monotonic()
        if len(absent):
            where = f"kept in {cache.path}" if kept else f"not kept, {cache.path.parent} cannot be written"
            progress.message(f"teacher {tutor.name}: {len(absent):,} jets scored, {where}")
    assert rows is not None
    lost = int((~np.isfinite(rows)).any(axis=1).sum())
    if lost:
        raise DataError(
            f"the teacher {tutor.name} has no finite score for {lost:,} of {len(rows):,} jets",
            mend="look at the jets with `hepml inspect`, or use another teacher",
        )
    return rows[:, tutor.order]


def _still_true(tutor: Tutor, dataset: Any, known: np.ndarray, rows: np.ndarray, batch_size: int) -> bool:
    """Whether some scores of a cache, from all over, are those that the teacher gives now: its code may have
    changed since they were kept, which its weights do not tell."""
    some = known[np.unique(np.linspace(0, len(known) - 1, min(CHECKED, len(known))).astype(np.int64))]
    now = tutor.log_probabilities(dataset.batch(some), batch_size)
    if now.shape[1] != rows.shape[1]:
        return False
    return bool(np.abs(np.exp(now) - np.exp(rows[some])).max() <= SAME)


def check_against_labels(
    tutor: Tutor, rows: np.ndarray, labels: np.ndarray, classes: Sequence[str], progress: Progress
) -> None:
    """Says how many of the labels a teacher tells, and refuses an order of its classes that nothing but the
    order itself speaks for, where the labels speak for another one.

    Args:
        tutor: the teacher.
        rows: its log-probabilities in the order of `classes`, [N, C].
        labels: of the same jets, -1 of those that have none, [N].
        classes: of the run.
        progress: told what share.

    Raises:
        ConfigError: names the order that fits.
    """
    labelled = np.flatnonzero(labels >= 0)
    y, p = labels[labelled], rows[labelled].astype(np.float64)
    if not len(y):
        return
    right = float((p.argmax(axis=1) == y).mean())
    progress.message(f"teacher {tutor.name}: right for {right:.1%} of {len(y):,} jets with a label")
    if not tutor.guessed:
        return
    from scipy.optimize import linear_sum_assignment  # slow to import

    means = [p[y == k].mean(axis=0) if (y == k).any() else np.zeros(p.shape[1]) for k in range(len(classes))]
    _, best = linear_sum_assignment(np.stack(means), maximize=True)
    gain = p[np.arange(len(y)), best[y]] - p[np.arange(len(y)), y]
    if gain.mean() > 3 * gain.std() / len(y) ** 0.5:
        raise ConfigError(
            f"the classes of the teacher {tutor.name} have other names than {', '.join(classes)}, and in "
            f"this order it is right for {right:.1%} of the jets with a label",
            where="distill.teacher",
            mend=f"give data.classes in its order, {', '.join(classes[k] for k in np.argsort(best))}, or "
            "with its names",
        )


def _pieces(jets: int) -> list[np.ndarray]:
    return [np.arange(i, min(i + CHUNK, jets)) for i in range(0, jets, CHUNK)]


# ------------------------------------------------------------------------------------------------------------
# what the teacher thinks of augmented jets


def _tell_symmetries(tutor: Tutor, dataset: Any, names: Sequence[str], progress: Progress) -> None:
    """Tells by how much each augmentation changes the teacher's probabilities, since augmented jets keep the
    scores of the jets they were made from."""
    if not names:
        return
    sample = dataset.batch(np.arange(min(SAMPLE, len(dataset))))
    before, words = np.exp(tutor.log_probabilities(sample, SAMPLE)), []
    with torch.random.fork_rng(devices=[]):
        for name in names:
            torch.manual_seed(0)
            after = np.exp(tutor.log_probabilities(augmentation.apply([name], sample), SAMPLE))
            words.append(f"{name} {np.abs(after - before).mean():.1e}")
    progress.message(f"mean change of {tutor.name}'s probabilities by augmentation: {', '.join(words)}")
