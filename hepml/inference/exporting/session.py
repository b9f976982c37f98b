"""An exported file as a model like any other: `hepml predict` and `hepml evaluate` take it for a run.

The file is run by onnxruntime, or by torch for `.pt2`; jets are padded to the longest of their batch on the
way in.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hepml import objectives
from hepml.data.batch import JetBatch
from hepml.data.features import RAW
from hepml.data.inputs import Inputs
from hepml.errors import DataError, FileError, HepmlError
from hepml.inference.exporting.tagger import GIVEN
from hepml.packed.rectangle import Rectangle, widest

SUFFIXES = (".onnx", ".pt2")
_SAME_AXIS = 1e-3  # of the energy: more than a file's float32 pT, eta, phi and energy lose


class ExportedTagger(nn.Module):
    """A file of `hepml export`, from jets to logits.

    Args:
        path: the file.
        threads: of onnxruntime; its own choice where left out.

    Raises:
        FileError: no such file, or not one of ours.
    """

    def __init__(self, path: Path | str, threads: int | None = None) -> None:
        super().__init__()
        self.path = Path(path)
        if not self.path.is_file():
            raise FileError(
                f"no file {self.path}", mend="name a file of `hepml export`, or a run that it can be made of"
            )
        self._run, self.metadata = _open(self.path, threads)
        if "hepml.classes" not in self.metadata:
            raise FileError(
                "this file has no `hepml.classes`: not an export of hepml",
                where=str(self.path),
                mend="write it with `hepml export`; a file of CMSSW needs its preprocess.json beside it",
            )
        self.columns = tuple(json.loads(self.metadata["hepml.columns"]))
        self.jet_columns = tuple(json.loads(self.metadata["hepml.jet_columns"]))
        self.inputs = Inputs(tuple(RAW + name for name in self.columns), self.jet_columns)
        self.hepml_classes = tuple(json.loads(self.metadata["hepml.classes"]))
        head = json.loads(self.metadata["hepml.objective"])
        self.hepml_objective = objectives.objective(head["name"], **head["arguments"])
        self.hepml_target = self.metadata.get("hepml.target") or None
        self.hepml_layout = self.metadata.get("hepml.layout") or None
        self.hepml_name = self.metadata["hepml.model"]

    def forward(self, batch: JetBatch) -> Tensor:
        """Logits, [B, outputs].

        Raises:
            DataError: jets whose own momentum is not the sum of their constituents, which the file takes for
                their axis.
        """
        self._check_axis(batch)
        return torch.from_numpy(self.run(self.padded(batch))["logits"])

    def _check_axis(self, batch: JetBatch) -> None:
        if self.metadata["hepml.jet_axis"] == GIVEN or batch.jet_momenta is None or not len(batch):
            return
        whole = replace(batch, jet_momenta=None).jets
        apart = (batch.jet_momenta - whole).abs().amax(1) > _SAME_AXIS * whole[:, 0].abs()
        if number := int(apart.sum()):
            raise DataError(
                f"{number} of {len(batch)} jets have a momentum of their own that is not the sum of their "
                "constituents, which this file takes for their axis",
                where=str(self.path),
                mend="export the run with --jet-axis given",
            )

    def padded(self, batch: JetBatch, extra: int = 0) -> dict[str, np.ndarray]:
        """The file's inputs, with so many absent constituents more than the longest jet needs."""
        where = Rectangle.of(batch.offsets, widest(batch.offsets) + extra, batch.four_momenta.shape[0])
        given = {"four_momenta": where.dense(batch.four_momenta.float()), "mask": where.mask}
        if self.columns:
            given["columns"] = where.dense(batch.select(self.inputs.features).float())
        if self.jet_columns:
            given["jet_columns"] = batch.select_jets(self.jet_columns).float()
        if self.metadata["hepml.jet_axis"] == GIVEN:
            given["jet_four_momenta"] = batch.jets.float()
        return {name: value.cpu().numpy() for name, value in given.items()}

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs of the file by name.

        Raises:
            DataError: inputs that it does not take; says which it does.
        """
        try:
            return self._run(inputs)
        except HepmlError:
            raise
        except Exception as problem:
            lines = " ".join(str(problem).split())[:200]
            raise DataError(
                f"the file does not take these inputs ({lines})",
                where=str(self.path),
                mend="four_momenta float32 [jets, constituents, 4], mask bool [jets, constituents]"
                + (f", columns float32 [jets, constituents, {len(self.columns)}]" if self.columns else "")
                + (f", jet_columns float32 [jets, {len(self.jet_columns)}]" if self.jet_columns else ""),
            ) from None


def _open(path: Path, threads: int | None) -> tuple[Any, dict[str, str]]:
    return _open_pt2(path) if path.suffix == ".pt2" else _open_onnx(path, threads)


def _open_onnx(path: Path, threads: int | None) -> tuple[Any, dict[str, str]]:
    session = onnx_session(path, threads)
    names = [output.name for output in session.get_outputs()]

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(None, inputs), strict=True))

    return run, dict(session.get_modelmeta().custom_metadata_map)


def onnx_session(path: Path, threads: int | None = None) -> Any:
    """onnxruntime's session of a file, on the CPU.

    Raises:
        FileError: onnxruntime is not installed, or cannot read the file.
    """
    try:
        import onnxruntime
    except ImportError:
        raise FileError(
            "onnxruntime is not installed", where=str(path), mend="pip install 'hepml-jets[export]'"
        ) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as problem:
        lines = " ".join(str(problem).split())[:200]
        raise FileError(
            f"onnxruntime cannot read this file ({lines})",
            where=str(path),
            mend="it may be truncated, or of a newer opset than the installed onnxruntime",
        ) from None


def _open_pt2(path: Path) -> tuple[Any, dict[str, str]]:
    extra: dict[str, Any] = {"hepml.json": ""}
    try:
        program = torch.export.load(path, extra_files=extra).module()
    except Exception as problem:
        lines = " ".join(str(problem).split())[:200]
        raise FileError(
            f"torch cannot read this file ({lines})", where=str(path), mend="it may be truncated"
        ) from None
    text = extra["hepml.json"]
    metadata = json.loads(text.decode() if isinstance(text, bytes) else text or "{}")

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            found = program(**{name: torch.from_numpy(value) for name, value in inputs.items()})
        return dict(zip(json.loads(metadata["hepml.outputs"]), (t.numpy() for t in found), strict=True))

    return run, metadata
