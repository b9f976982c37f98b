"""An exported file as a model like any other: `hepml predict` and `hepml evaluate` take it for a run.

The file is run by onnxruntime, or by torch for `.pt2`; jets are padded to the longest of their batch on the
way in.
"""

from __future__ import annotations

import json
import zipfile
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
from hepml.errors import DataError, FileError, HepmlError, ModelError
from hepml.inference.exporting import preprocess
from hepml.inference.exporting.packing import athena, cmssw, padded
from hepml.inference.exporting.preprocess import Preprocess
from hepml.inference.exporting.tagger import ATHENA, CMSSW, GIVEN, PADDED, Form
from hepml.models.identity import Tagger, identify

_SAME_AXIS = 1e-3  # of the energy: more than a file's float32 pT, eta, phi and energy lose


class ExportedTagger(Tagger):
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
        head = json.loads(self.metadata["hepml.objective"])
        identify(
            self,
            name=self.metadata["hepml.model"],
            objective=objectives.objective(head["name"], **head["arguments"]),
            classes=json.loads(self.metadata["hepml.classes"]),
            target=self.metadata.get("hepml.target") or None,
            layout=self.metadata.get("hepml.layout") or None,
        )
        self.form = Form(
            self.columns,
            self.jet_columns,
            self.metadata["hepml.jet_axis"],
            self.hepml_classes,
            self.hepml_objective.task == "regression",
            self.metadata.get("hepml.form", PADDED),
            tuple(json.loads(self.metadata.get("hepml.features", "[]"))),
        )
        self.preprocess = self._preprocess() if self.form.kind == CMSSW else None

    def forward(self, batch: JetBatch) -> Tensor:
        """Logits, [B, outputs].

        Raises:
            DataError: jets whose own momentum is not the sum of their constituents, which the file takes for
                their axis.
        """
        self._check_axis(batch)
        if self.form.kind == PADDED:
            return torch.from_numpy(self.run(self.padded(batch))["logits"])
        return _logits(
            torch.from_numpy(self.probabilities(batch)), self.form.regression, self.hepml_objective
        )

    def probabilities(self, batch: JetBatch, extra: int = 0) -> np.ndarray:
        """The file's first output, [B, classes], with so many absent constituents more than are needed."""
        if self.form.kind == ATHENA:
            rows = [
                list(self.run(athena(jet, self.form, self.inputs.features)).values())
                for jet in (batch.slice(i, i + 1) for i in range(len(batch)))
            ]
            return np.array(rows, dtype=np.float32).reshape(len(batch), len(self.form.outputs))
        return self.run(self.padded(batch, extra))[self.form.outputs[0]]

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
        if self.preprocess is not None:
            return cmssw(batch, self.form, self.inputs.features, self.preprocess, extra)
        return padded(batch, self.form, self.inputs.features, extra)

    def _preprocess(self) -> Preprocess:
        file = preprocess.beside(self.path)
        if file is None:
            raise FileError(
                "no preprocess.json beside this file, which was exported with --form cmssw",
                where=str(self.path),
                mend="copy it from where the file came from, or export again",
            )
        read = preprocess.read(file)
        if {n: len(b.variables) for n, b in read.inputs.items()} != {
            n: sizes[1] for n, sizes in self.form.inputs.items()
        }:
            raise FileError(
                "these inputs are not those of the network", where=str(file), mend="export it again"
            )
        return read

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs of the file by name.

        Raises:
            DataError: inputs that it does not take; says which it does.
        """
        try:
            out: dict[str, np.ndarray] = self._run(inputs)
            return out
        except HepmlError:
            raise
        except Exception as problem:
            lines = " ".join(str(problem).split())[:200]
            raise DataError(
                f"the file does not take these inputs ({lines})",
                where=str(self.path),
                mend="it takes "
                + ", ".join(
                    f"{name} {'bool' if name == 'mask' else 'float32'} [{', '.join(map(str, sizes))}]"
                    for name, sizes in self.form.inputs.items()
                ),
            ) from None


def _logits(rows: Tensor, regression: bool, head: Any) -> Tensor:
    """Outputs of which the head makes these rows: their logarithms, and the log-odds of two classes by one
    output."""
    if regression:
        raise ModelError("a regression has no logits in this form", mend="export with --form padded")
    logs = rows.clamp_min(torch.finfo(rows.dtype).tiny).log()
    return logs[:, 1:] - logs[:, :1] if head.name == "bernoulli" else logs


def open_exported(path: Path | str, threads: int | None = None) -> nn.Module:
    """A file of `hepml export`, or an experiment's own ONNX file with the `preprocess.json` beside it.

    Raises:
        FileError: no such file, or a file that does not say what it takes.
    """
    path = Path(path)
    if path.suffix == ".onnx" and path.is_file():
        session = onnx_session(path, threads)
        if "hepml.classes" not in session.get_modelmeta().custom_metadata_map:
            from hepml.inference.exporting.cms import CmsTagger

            return CmsTagger(path, session).eval()
    return ExportedTagger(path, threads).eval()


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


def _is_compiled(path: Path) -> bool:
    """Whether a pt2 file holds machine code."""
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(".so") for name in archive.namelist())


def _open_pt2(path: Path) -> tuple[Any, dict[str, str]]:
    extra: dict[str, Any] = {"hepml.json": ""}
    try:
        if _is_compiled(path):
            program: Any = torch._inductor.aoti_load_package(str(path))
            extra = dict(program.get_metadata())
        else:
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
            outputs = program(**{name: torch.from_numpy(value) for name, value in inputs.items()})
        return dict(zip(json.loads(metadata["hepml.outputs"]), (t.numpy() for t in outputs), strict=True))

    return run, metadata
