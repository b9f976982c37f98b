"""Teachers for distillation: published weights, runs and ONNX taggers behind one interface, the
log-probabilities of jets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from torch import nn

from hepml import paths
from hepml.data import features as feature_table
from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.errors import ConfigError, FileError
from hepml.inference.exporting.session import ExportedTagger, onnx_session
from hepml.inference.prediction import head_of, inputs_of, score, width_of
from hepml.models.identity import Tagger, identify, identity_of
from hepml.packed.rectangle import to_dense
from hepml.training.checkpoints import find_checkpoint, load_model
from hepml.training.recipe_config import Teacher

SMALLEST = 1e-30  # probability, below which float32 has no logarithm


@dataclass(frozen=True)
class Tutor:
    """A teacher that is ready to score jets.

    Args:
        name: for messages.
        digest: of its weights: another file is another teacher.
        inputs: what it reads.
        model: from a batch to logits, with a head.
        order: columns of its probabilities in the order of the run's classes.
        remark: how its classes were taken for the run's, where their names did not say.
        guessed: whether none of its classes has a name of the run's, so that they were taken in their order.
    """

    name: str
    digest: str
    inputs: Inputs
    model: nn.Module
    order: tuple[int, ...]
    remark: str = ""
    guessed: bool = False

    def log_probabilities(self, batch: JetBatch, batch_size: int) -> np.ndarray:
        """[B, C] float32, in the teacher's own order of classes: so they are kept for runs of any other."""
        rows = score(self.model, batch, batch_size)
        return np.log(np.maximum(rows.astype(np.float64), SMALLEST)).astype(np.float32)

    @property
    def beside_momenta(self) -> tuple[str, ...]:
        """Constituent features that do not follow from four-momenta."""
        momentum = set(feature_table.MOMENTUM_COLUMNS)
        return tuple(n for n in self.inputs.features if not set(feature_table.lookup(n).needs) <= momentum)

    def can_read(self, student: Inputs) -> bool:
        """Whether jets that were opened for the student hold all that the teacher reads."""
        return (
            set(self.beside_momenta) <= set(student.features)
            and set(self.inputs.jet_features) <= set(student.jet_features)
            and set(self.inputs.collections) <= set(student.collections)
            and student.max_constituents in (None, self.inputs.max_constituents)
            and (self.inputs.max_constituents is None or student.max_constituents is not None)
        )


class ForeignTagger(Tagger):
    """A tagger that others wrote to ONNX, in the form of `hepml export`: `four_momenta` [jets, constituents,
    4] and perhaps `mask` [jets, constituents] to `probabilities`; it says nothing of itself.

    Its output is the logarithm of the probabilities, so that a softmax gives them back.

    Raises:
        ConfigError: the file asks for other inputs, or gives no probabilities.
        FileError: onnxruntime is not installed, or not an ONNX file.
    """

    def __init__(self, path: Path, session: Any) -> None:
        super().__init__()
        self.session = session
        asked = {value.name for value in session.get_inputs()}
        if not {"four_momenta", "mask"} >= asked or "four_momenta" not in asked:
            raise ConfigError(
                f"the ONNX tagger reads {', '.join(sorted(asked))}; a teacher is given four_momenta and mask",
                where=str(path),
                mend="use the run it was exported from: distill.teacher={run: …}",
            )
        given = {value.name: value.shape[-1] for value in session.get_outputs()}
        if "probabilities" not in given:
            raise ConfigError(
                f"the ONNX tagger gives {', '.join(given)}, and no probabilities",
                where=str(path),
                mend="name its output `probabilities`, [jets, classes]",
            )
        self.masked = "mask" in asked
        width = given["probabilities"]
        identify(
            self, objective="categorical", hyperparameters={"outputs": width if isinstance(width, int) else 2}
        )
        self.inputs = Inputs()

    def forward(self, batch: JetBatch) -> torch.Tensor:
        """Log-probabilities, [B, C]."""
        p = batch.four_momenta.float()
        feed = {"four_momenta": to_dense(p, batch.offsets).numpy()}
        if self.masked:
            length = torch.arange(feed["four_momenta"].shape[1])
            feed["mask"] = (length[None, :] < batch.counts[:, None]).numpy()
        (rows,) = self.session.run(["probabilities"], feed)
        return torch.log(torch.from_numpy(np.asarray(rows)).clamp_min(SMALLEST))


def open_onnx(path: Path) -> nn.Module:
    """A tagger of an ONNX file: of `hepml export` with the columns and jet axis that it was exported with.

    Raises:
        FileError, ConfigError: see `ForeignTagger`.
    """
    session = onnx_session(path)
    if "hepml.objective" in session.get_modelmeta().custom_metadata_map:
        return ExportedTagger(path)
    return ForeignTagger(path, session)


def open_teacher(teacher: Teacher, classes: tuple[str, ...]) -> Tutor:
    """A teacher from the config.

    Raises:
        FileError: nothing there.
        ModelError: weights that are not recognised.
        ConfigError: it tells other classes apart, or is a regression.
    """
    path = Path(teacher.source)
    if teacher.pretrained is not None and not path.exists():
        raise FileError(
            f"no weights '{path.name}' for the teacher",
            where="distill.teacher.pretrained",
            mend=f"put {path.stem}.pt into a folder of the data path ({paths.describe_data_path()}), or name "
            "its path",
        )
    if teacher.onnx is None:
        path = find_checkpoint(path)
    elif not path.is_file():
        raise FileError("no such file", where=str(path), mend="name a file that `hepml export` wrote")
    model: Any = open_onnx(path) if teacher.onnx is not None else load_model(path)
    if head_of(model).task != "classification":
        raise ConfigError(
            "the teacher is a regression", where=str(path), mend="give one that tells classes apart"
        )
    identity = identity_of(model)
    named = identity.bare_classes
    ours = tuple(str(name).removeprefix("label_") for name in classes)
    outputs = len(named) or width_of(model)
    if outputs != len(ours):
        raise ConfigError(
            f"the teacher tells {outputs} classes apart ({', '.join(named)}), this run has {len(ours)}",
            where=str(path),
            mend="choose data.classes to fit it",
        )
    order = match_classes(named, ours, path)
    remark = ""
    if set(named) != set(ours):
        theirs = [named[i] for i in order] if named else [f"output {i}" for i in order]
        pairs = (f"{name} is its {other}" for name, other in zip(ours, theirs, strict=True) if name != other)
        remark = f"the teacher has other names for these classes: {', '.join(pairs)}"
    digest = xxhash.xxh3_64(path.read_bytes()).hexdigest()
    shown = path.parent.parent.name if path.suffix == ".ckpt" else path.stem
    guessed = set(named).isdisjoint(ours)
    return Tutor(shown, digest, inputs_of(model), model.eval(), order, remark, guessed)


def match_classes(named: Sequence[str], ours: Sequence[str], path: Path) -> tuple[int, ...]:
    """Where a teacher has each of the run's classes: by their names; one that is left over on both sides is
    the same class under two names, and names none of which is shared are taken in their order.

    Raises:
        ConfigError: some names are shared and several are not, so that nothing tells which are the same.
    """
    free = [i for i, name in enumerate(named) if name not in ours]
    if not named or len(free) == len(named):
        return tuple(range(len(ours)))
    if len(free) > 1:
        raise ConfigError(
            f"the teacher's classes are {', '.join(named)}, this run's {', '.join(ours)}",
            where=str(path),
            mend="name them alike: data.classes={NAME OF THE TEACHER: label}",
        )
    return tuple(named.index(name) if name in named else free[0] for name in ours)
