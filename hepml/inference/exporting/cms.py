"""An experiment's own tagger: an ONNX file with the `preprocess.json` that CMSSW reads, run on files that
hold its columns, so that the official tagger stands in the same table as a new one.

Such a network has no four-momenta and no layout of ours: it reads columns by name, from several collections
(candidates, secondary vertices) of which each jet has a list. Jets are batched only with jets whose inputs
have the same lengths, so that each sees the padding that CMSSW gives it alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from hepml import objectives
from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.data.reading.jet_lists import JetLists, Lists
from hepml.errors import DataError, FileError, ModelError
from hepml.inference.exporting import preprocess as form
from hepml.inference.exporting.preprocess import Preprocess
from hepml.inference.prediction import Scored
from hepml.models.identity import Tagger, identify

log = logging.getLogger(__name__)

_CLASS, _TARGET = ("label_", "prob_", "prob"), "target_"


@dataclass(frozen=True)
class Labelled:
    """Scores of labelled jets.

    Args:
        labels: [B] index of the class.
        scores: [B, classes].
        weights: [B] or None.
        kinematics: `pt` and `eta` [B] where the file has them.
        unlabelled: jets of no class, which are left out.
    """

    labels: np.ndarray
    scores: np.ndarray
    weights: np.ndarray | None
    kinematics: dict[str, np.ndarray] | None
    unlabelled: int


class CmsTagger(Tagger):
    """A network with a `preprocess.json`.

    Args:
        path: the ONNX file.
        session: onnxruntime's.
        preprocess: its `preprocess.json`; the one beside it where left out.

    Raises:
        FileError: no `preprocess.json`, or one that belongs to another network.
    """

    def __init__(self, path: Path, session: Any, preprocess: Path | None = None) -> None:
        super().__init__()
        self.path = path
        file = preprocess or form.beside(path)
        if file is None:
            raise FileError(
                "this file has no `hepml.classes` and no preprocess.json beside it",
                where=str(path),
                mend="write it with `hepml export`, or put CMSSW's preprocess.json into its folder",
            )
        self.preprocess: Preprocess = form.read(file)
        self._session = session
        self._check(file)
        names = self.preprocess.outputs
        self._places = {name: i for i, name in enumerate(names) if _class_of(name) is not None}
        if not self._places:
            self._places = {name: i for i, name in enumerate(names)}
        classes = tuple(_class_of(name) or name for name in self._places)
        self.branches = dict(zip(classes, self._places, strict=True))  # class name -> one-hot branch
        self.inputs = Inputs()
        head = objectives.objective("categorical", classes=len(classes))
        identify(self, name=path.stem, classes=classes, objective=head)
        self.output_names = [
            f"score_{_class_of(name) or name}"
            if name in self._places
            else f"predicted_{name.removeprefix(_TARGET)}"
            for name in names
        ]

    def _check(self, file: Path) -> None:
        """Refuses a `preprocess.json` of another network."""
        given = {i.name: i.shape for i in self._session.get_inputs()}
        if set(given) != set(self.preprocess.inputs):
            raise FileError(
                f"inputs {', '.join(self.preprocess.inputs)}, where the network has {', '.join(given)}",
                where=str(file),
                mend="put the preprocess.json that belongs to the network beside it",
            )
        for name, shape in given.items():
            width = len(self.preprocess.inputs[name].variables)
            if len(shape) != 3 or (isinstance(shape[1], int) and shape[1] != width):
                raise FileError(
                    f"{width} columns in '{name}', where the network has {shape}",
                    where=str(file),
                    mend="put the preprocess.json that belongs to the network beside it",
                )
        outputs = [o.shape[-1] for o in self._session.get_outputs()]
        total = sum(o for o in outputs if isinstance(o, int))
        if not self.preprocess.outputs or (
            all(isinstance(o, int) for o in outputs) and total != len(self.preprocess.outputs)
        ):
            raise FileError(
                f"{len(self.preprocess.outputs)} output_names, where the network has {total} outputs",
                where=str(file),
                mend="put the preprocess.json that belongs to the network beside it",
            )

    def forward(self, batch: JetBatch) -> Tensor:
        """Such a network has no batch of ours."""
        raise ModelError(
            f"{self.hepml_name} reads columns of files, not batches: "
            f"{', '.join(self.preprocess.columns[:3])}, …",
            where=str(self.path),
            mend="give it files: hepml predict, hepml evaluate or hepml.predict(model, FILES)",
        )

    def count(self, files: Any, layout: Any = None) -> int:
        """Jets in these files, which must have the columns.

        Raises:
            LayoutError: columns that a file lacks, all of them by name.
        """
        return JetLists(files, layout).check(self._needed(), str(self.path)).entries

    def score_files(
        self,
        files: Any,
        batch_size: int = 512,
        *,
        layout: Any = None,
        jet_columns: Sequence[str] | str | None = None,
    ) -> Iterator[Scored]:
        """Scores chunk by chunk, in file order.

        Raises:
            LayoutError: columns that a file lacks, all of them by name.
            DataError: lists of one collection that have different lengths.
        """
        reader = JetLists(files, layout).check(self._needed(), str(self.path))
        for lists in reader.chunks(self._needed(), self.branches, jet_columns):
            rows = self.score(lists, batch_size)
            yield Scored(rows, lists.file, lists.entries, lists.jets, lists.labels, self.hepml_classes, 0)

    def labelled(
        self,
        files: Any,
        batch_size: int = 512,
        *,
        layout: Any = None,
        tell: Callable[[int], None] = lambda scored: None,
    ) -> Labelled:
        """Probabilities of the classes with labels, for a report.

        Raises:
            DataError: files without labels, or jets of no class that the layout does not let go.
        """
        reader = JetLists(files, layout).check(self._needed(), str(self.path))
        parts, scored = [], 0
        numbers = [n for n in ("jet_pt", "jet_eta") if n in reader.numbers()]
        for lists in reader.chunks(self._needed(), self.branches, numbers):
            if lists.labels is None:
                names = ", ".join(self.branches.values())
                raise DataError(
                    f"the jets have no labels: none of the branches {names}",
                    where=lists.file,
                    mend="map them with --layout (labels: {CLASS: BRANCH}); hepml predict needs none",
                )
            if not reader.drops and (number := int((lists.labels < 0).sum())):
                raise DataError(
                    f"{number} of {len(lists)} jets are of none of the classes "
                    f"{', '.join(self.hepml_classes)}",
                    where=lists.file,
                    mend="write `unlabelled: drop` into the layout to leave them out",
                )
            parts.append((lists, self.classes_of(self.score(lists, batch_size))))
            scored += len(lists)
            tell(scored)
        labels = np.concatenate([lists.labels for lists, _ in parts if lists.labels is not None])
        kept = labels >= 0

        def one(name: str) -> np.ndarray:
            return np.concatenate([lists.jets[name] for lists, _ in parts])[kept]

        weighted = [lists.weights for lists, _ in parts if lists.weights is not None]
        return Labelled(
            labels[kept],
            np.concatenate([rows for _, rows in parts])[kept],
            np.concatenate(weighted).astype(np.float64)[kept] if weighted else None,
            {name.removeprefix("jet_"): one(name) for name in numbers} or None,
            int((~kept).sum()),
        )

    def score(self, lists: Lists, batch_size: int = 512) -> np.ndarray:
        """The network's outputs, [B, outputs] in the order of `output_names`."""
        columns, replaced = self._columns(lists), 0
        for block in self.preprocess.inputs.values():
            for name, variable in block.variables.items():
                replaced += int(variable.is_replaced(columns[name][0]).sum())
        if replaced:
            log.warning("%s: %d values are not finite and are replaced, as in CMSSW", lists.file, replaced)
        counts = {
            name: np.diff(columns[next(iter(block.variables))][1])
            for name, block in self.preprocess.inputs.items()
        }
        rows = np.zeros((len(lists), len(self.preprocess.outputs)))
        one = any(i.shape[0] == 1 for i in self._session.get_inputs())
        for jets in self.preprocess.groups(counts, 1 if one else batch_size):
            given = {name: block.fill(columns, jets) for name, block in self.preprocess.inputs.items()}
            outputs = self._session.run(None, given)
            rows[jets] = np.concatenate([f.reshape(len(jets), -1) for f in outputs], axis=1)
        return rows

    def classes_of(self, rows: np.ndarray) -> np.ndarray:
        """The columns that are probabilities of classes, [B, classes]."""
        return rows[:, list(self._places.values())]

    def _needed(self) -> list[str]:
        """Columns that a file must have: all but masks, which say that a constituent is there."""
        return [name for name in self.preprocess.columns if not name.endswith("_mask")]

    def _columns(self, lists: Lists) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        columns = dict(lists.columns)
        for name, block in self.preprocess.inputs.items():
            beside = [
                columns[column]
                for other in self.preprocess.companions(name)
                for column in self.preprocess.inputs[other].variables
                if column in columns
            ]
            for column in block.variables:
                if column not in columns:  # a mask
                    if not beside:
                        raise DataError(f"no list tells how long '{column}' is", where=lists.file)
                    offsets = beside[0][1]
                    columns[column] = (np.ones(int(offsets[-1]), np.float32), offsets)
            lengths = {column: columns[column][1] for column in block.variables}
            first = next(iter(lengths))
            for column, offsets in lengths.items():
                if not np.array_equal(offsets, lengths[first]):
                    raise DataError(
                        f"lists of '{column}' and '{first}' have different lengths",
                        where=lists.file,
                        mend="map columns of one collection",
                    )
        return columns


def _class_of(name: str) -> str | None:
    """The class that an output stands for; None for a regression."""
    prefix = next((p for p in _CLASS if name.startswith(p) and len(name) > len(p)), None)
    return None if prefix is None else name.removeprefix(prefix)
