"""Checkpoints: written whole or not at all, and read back as a model that is ready to use.

A checkpoint is first written beside its final name and then renamed, so that a full disk or a killed job
never leaves half a file where a good one stood. `load_model` builds the model from what the checkpoint itself
says about it; nothing but tensors and plain values is unpickled.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import nn

from hepml import objectives, outputs
from hepml.errors import FileError, HepmlError, ModelError
from hepml.models import catalogue
from hepml.models.identity import identify
from hepml.models.standardised import standardise
from hepml.pretrained.archives import DIGEST, digest, read_archive
from hepml.pretrained.published import PUBLISHED, named
from hepml.tracking import registry
from hepml.training.identity import check_resumable, identity_of, weights_of

BEST, LAST = "best.ckpt", "last.ckpt"

EXPORTED = (".onnx", ".pt2")  # what `hepml export` writes; taken where runs are


def load_model(run_or_checkpoint: Path | str, *, device: str = "cpu") -> nn.Module:
    """A trained model, in eval mode.

    Besides `inputs` and `forward`, it carries what it was trained for (`hepml.models.identity.identity_of`):
    `hepml_name`, `hepml_hyperparameters`, `hepml_objective` (an `Objective`), `hepml_classes` (names in the
    order of the outputs), `hepml_target` and `hepml_layout`.

    Args:
        run_or_checkpoint: a run folder (its best checkpoint is taken), a checkpoint, published weights (see
            `hepml.pretrained`), a file of `hepml export`, an experiment's own ONNX file with its
            `preprocess.json`, or a registered model as `models:/NAME@ALIAS`.
        device: where the model is put.

    Raises:
        FileError: no such file, or a file that is not a checkpoint.
        ModelError: weights that do not fit the model that the checkpoint names.

    Examples:
        >>> run = hepml.train("quickstart", model="mlp", **{"training.epochs": 1, "data.max_jets": 400})
        >>> model = hepml.load_model(run.path)
        >>> model(hepml.JetBatch.from_awkward(hepml.read_jets("data/toptag/test.root", entry_stop=5))).shape
        torch.Size([5, 2])
    """
    if registry.describes_registered(run_or_checkpoint):
        return registry.load(str(run_or_checkpoint)).to(device)
    path = find_checkpoint(run_or_checkpoint)
    if path.suffix in EXPORTED:
        from hepml.inference.exporting.session import open_exported

        return open_exported(path)
    content = read_checkpoint(path)
    identity = identity_of(content, path)
    if identity is None:
        from hepml import pretrained

        return pretrained.load(path).to(device).eval()
    try:
        with _as_written(identity, path):
            model = catalogue.create(identity["name"], **identity["hyperparameters"])
    except ModelError as unknown:
        plugins = (identity.get("config") or {}).get("plugins")
        if not isinstance(plugins, list) or not plugins:
            raise
        # a checkpoint never makes code run: whoever wants the plugin imports it
        named = [str(plugin) for plugin in plugins]
        raise ModelError(
            f"model '{identity['name']}' is registered by {', '.join(named)}, which is not imported",
            where=str(path),
            mend=f"set HEPML_PLUGINS={os.pathsep.join(named)}, or in a script "
            f"hepml.models.load_plugin({plugins[0]!r})",
        ) from unknown
    weights = weights_of(content, path)
    try:
        model.load_state_dict(weights)
    except RuntimeError as problem:
        reason = str(problem).splitlines()[1:2] or [str(problem)]
        raise ModelError(
            f"weights do not fit model '{identity['name']}': {reason[0].strip()}",
            where=str(path),
            mend=f"they were written by hepml {identity.get('version', '?')}",
        ) from None
    with _as_written(identity, path):
        describe(model, identity)
    return model.to(device).eval()


def describe(model: nn.Module, identity: dict[str, Any]) -> None:
    """Puts what a model was trained for on it as attributes."""
    head = identity.get("objective") or {
        "name": "categorical",
        "arguments": {"classes": len(identity.get("classes", ())) or 2},
    }
    identify(
        model,
        objective=objectives.objective(head["name"], **head["arguments"]),
        classes=tuple(identity.get("classes", ())),
        target=identity.get("target"),
        layout=identity.get("layout"),
        pretext=bool((identity.get("config") or {}).get("pretraining")),
    )
    if identity.get("standards"):
        standardise(model, identity["standards"])


@contextlib.contextmanager
def _as_written(identity: dict[str, Any], path: Path) -> Iterator[None]:
    """Names the checkpoint in whatever is wrong with what it says about its model."""
    mend = f"it was written by hepml {identity.get('version', '?')}"
    try:
        yield
    except HepmlError as problem:
        raise type(problem)(problem.what, where=str(path), mend=problem.mend or mend) from problem
    except Exception as problem:  # values of another kind than a constructor takes
        reason = " ".join(str(problem).split())[:120]
        raise ModelError(
            f"model '{identity['name']}' cannot be built as the checkpoint says ({reason})",
            where=str(path),
            mend=mend,
        ) from None


def find_checkpoint(run_or_checkpoint: Path | str) -> Path:
    """The checkpoint that a run folder, a path or the name of published weights means.

    Raises:
        FileError: nothing there.
    """
    path = named(run_or_checkpoint)
    if path.is_dir():
        for candidate in (path / "checkpoints" / BEST, path / BEST, path / "checkpoints" / LAST):
            if candidate.is_file():
                return candidate
        raise FileError(
            "no checkpoint in this folder",
            where=str(path),
            mend="name a run folder that holds checkpoints/best.ckpt",
        )
    if not path.is_file() and str(run_or_checkpoint) in PUBLISHED:
        raise FileError(
            "these published weights are not on this machine",
            where=str(run_or_checkpoint),
            mend=f"hepml pretrained fetch {run_or_checkpoint}",
        )
    if not path.is_file() and path.suffix in EXPORTED:
        raise FileError(
            "no such file",
            where=str(path),
            mend=f"`hepml export RUN -o {path.name}` writes one of a run",
        )
    if not path.is_file():
        raise FileError(
            "no such run or checkpoint",
            where=str(path),
            mend="name a run folder or a .ckpt file; `hepml runs list` shows runs",
        )
    return path


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint, tensors on the CPU; only tensors and plain values are unpickled.

    Raises:
        FileError: not a checkpoint, or damaged or truncated.
        ModelError: made of arbitrary Python objects.
    """
    content = read_archive(path, "checkpoint")
    if not isinstance(content, dict):
        raise FileError("not a checkpoint", where=str(path))
    return content


def epochs_of(path: Path) -> int:
    """Whole epochs that a checkpoint of a run has behind it.

    Raises:
        FileError: not a checkpoint.
    """
    return epochs_in(read_checkpoint(path), path)


def epochs_in(content: dict[str, Any], path: Path) -> int:
    """The same of a checkpoint that is read already."""
    check_resumable(content, path)
    states = content["callbacks"].values()
    histories = (
        state["history"]
        for state in states
        if isinstance(state, dict) and isinstance(state.get("history"), list)
    )
    return len(next(histories, ()))


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file beside its final name, flushes it to the disk and renames it.

    Raises:
        FileError: the disk is full or the folder cannot be written; whatever stood under the final name still
            stands there.
    """
    try:
        with outputs.writing(path, wait=True) as temporary:
            temporary.write_bytes(data)
    except OSError as problem:
        raise FileError(
            f"cannot write {path.name}: {problem.strerror or problem}",
            where=str(path.parent),
            mend="free some space or choose another --output; --resume goes on from the last whole "
            "checkpoint",
        ) from None


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint writer, whole or not at all."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        buffer = io.BytesIO()
        torch.save({**checkpoint, DIGEST: digest(checkpoint)}, buffer)
        write_atomically(Path(path), buffer.getvalue())

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: Any = None
    ) -> dict[str, Any]:
        return read_checkpoint(Path(path))


def initialise_from(
    model: nn.Module, source: Path | str, leave_out: Collection[str] = frozenset()
) -> list[str]:
    """Copies every weight that fits from a trained model into this one (fine-tuning).

    Args:
        model: the model to start.
        source: a run, a checkpoint or published weights.
        leave_out: names of tensors that are not copied.

    Returns:
        names of tensors that keep their fresh values because their shapes differ, the source lacks them or
            they are left out: the last layer, as a rule.

    Raises:
        ModelError: less than half of the model's numbers could be taken over, so that these are weights of
            another architecture.
    """
    given = load_model(source).state_dict()
    own = model.state_dict()
    fits = {name: tensor for name, tensor in given.items() if name in own and own[name].shape == tensor.shape}
    taken, total = sum(t.numel() for t in fits.values()), sum(t.numel() for t in own.values())
    fits = {name: tensor for name, tensor in fits.items() if name not in leave_out}
    if 2 * taken < total:
        raise ModelError(
            f"only {taken:,} of the model's {total:,} numbers are in these weights",
            where=str(source),
            mend="name the architecture they were trained with (same hyperparameters, same features)",
        )
    model.load_state_dict(fits, strict=False)
    return [name for name in own if name not in fits]
