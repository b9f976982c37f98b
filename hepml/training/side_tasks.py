"""Side tasks: further heads on the backbone of any tagger, each with its own objective, weight and figures.

A jet's head reads what the tagger's last linear layer reads, a constituent's head the last output that has
one row a constituent; both are found by watching forward passes, so that no model has to know of them. A
model may sort its jets by their number of constituents (`hepml.nn.encoder`): that is measured, and undone.
Heads belong to the training and not to the model: predictions and exports are those of the tagger alone.
Masked-particle pretraining (`hepml.training.pretraining`) is such a task by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hepml import objectives
from hepml.data.batch import JetBatch
from hepml.data.features import RAW
from hepml.data.inputs import Inputs
from hepml.data.jet_columns import DERIVED
from hepml.errors import ConfigError, DataError
from hepml.models.identity import identity_of
from hepml.nn.modes import evaluation_mode
from hepml.objectives import Objective
from hepml.packed.segments import rows_in_order
from hepml.training.recipe_config import AuxiliaryTask

SAMPLE = 20_000  # training jets that the scale of a target is measured on
PROBE = 6  # jets of the forward passes that are watched


def module_name(task: str) -> str:
    """The name of a task's head among modules, where those of torch's own attributes are taken."""
    return f"{task}_" if hasattr(nn.ModuleDict, task) else task


@dataclass(frozen=True)
class Task:
    """One side task.

    Args:
        name: in metrics.
        target: jet column, or constituent column.
        of: `jet` or `constituent`.
        objective: its head's.
        weight: of its loss beside the tagger's.
        remark: how many of the training jets have no target, where some have none.
    """

    name: str
    target: str
    of: str
    objective: Objective
    weight: float
    remark: str = ""

    @property
    def module(self) -> str:
        """The name of its head among modules."""
        return module_name(self.name)

    def known(self, values: Tensor) -> Tensor:
        """Where there is a target: finite, and of classes one of the head's."""
        known = torch.isfinite(values)
        if self.objective.task == "classification":
            known &= (values >= 0) & (values < self.objective.outputs)
        return known

    def values(self, batch: JetBatch) -> Tensor:
        """The targets of a batch, [B] or [ΣN]."""
        if self.of == "jet":
            return batch.select_jets([self.target])[:, 0]
        return batch.select([RAW + self.target])[:, 0]


def with_columns(inputs: Inputs, columns: Sequence[tuple[str, str]]) -> Inputs:
    """What a model reads and, beside it, columns of side tasks and penalties.

    Args:
        inputs: the model's.
        columns: (`jet` or `constituent`, name).
    """
    jets = [name for of, name in columns if of == "jet" and name not in DERIVED]
    parts = [RAW + name for of, name in columns if of == "constituent"]
    return replace(
        inputs,
        jet_features=tuple(dict.fromkeys((*inputs.jet_features, *jets))),
        features=tuple(dict.fromkeys((*inputs.features, *parts))),
    )


def build_tasks(settings: Mapping[str, AuxiliaryTask], train: Any) -> list[Task]:
    """The tasks of a config, with the scale of their targets from the training jets.

    Raises:
        DataError: a categorical target that is not made of whole numbers from 0, or a target that is one
            number.
    """
    if not settings:
        return []
    # from all over the jets, which are often sorted by class
    sample = train.batch(np.unique(np.linspace(0, len(train) - 1, min(SAMPLE, len(train))).astype(np.int64)))
    tasks = []
    for name, one in settings.items():
        task = Task(name, one.target, one.of, objectives.objective("gaussian"), one.weight)
        values = task.values(sample).double()
        values = values[torch.isfinite(values)]
        where = f"auxiliary.{name}.target"
        if not len(values):
            raise DataError(f"'{one.target}' has no finite value", where=where, mend="name another column")
        if one.objective == "gaussian":
            centre, width = float(values.mean()), float(values.std())
            if not width > 0:
                raise DataError(
                    f"'{one.target}' is the same for all", where=where, mend="name another column"
                )
            head = objectives.objective("gaussian", centre=centre, width=width)
            follows = one.of == "jet" and one.target in DERIVED  # from momenta, which all jets have
            census = _Census() if follows else _Census.of(task, train)
        else:
            if not bool((values == values.round()).all()):
                raise DataError(
                    f"'{one.target}' has values that are no whole numbers",
                    where=where,
                    mend="objective: gaussian for a continuous target",
                )
            census = _Census.of(task, train, least=0, most=max(2, one.classes) - 1 if one.classes else None)
            classes = one.classes or 1 + census.largest
            head = objectives.objective("categorical", classes=max(2, classes))
        tasks.append(replace(task, objective=head, remark=census.remark(task)))
    return tasks


@dataclass(frozen=True)
class _Census:
    """The targets of all training jets, or constituents.

    Args:
        total: how many there are.
        lacking: how many are none, those beyond the classes among them.
        beyond: how many are a class beyond `most`.
        largest: of the others.
        most: the last class, where the config says how many there are.
    """

    total: int = 0
    lacking: int = 0
    beyond: int = 0
    largest: int = -1
    most: int | None = None

    @classmethod
    def of(cls, task: Task, train: Any, least: float = -math.inf, most: int | None = None) -> _Census:
        """Counted some jets at a time; targets below `least` are none."""
        census = cls(most=most)
        for first in range(0, len(train), SAMPLE):
            values = task.values(train.batch(np.arange(first, min(first + SAMPLE, len(train))))).double()
            finite = values[torch.isfinite(values) & (values >= least)]
            known = finite if most is None else finite[finite <= most]
            census = cls(
                census.total + len(values),
                census.lacking + len(values) - len(known),
                census.beyond + len(finite) - len(known),
                max(census.largest, int(known.max()) if len(known) else -1),
                most,
            )
        return census

    def remark(self, task: Task) -> str:
        """How many have no target; empty where all have one."""
        if not self.lacking:
            return ""
        beyond = f", {self.beyond:,} of them a class beyond {self.most}" if self.beyond else ""
        return (
            f"auxiliary.{task.name}: {self.lacking:,} of {self.total:,} training {task.of}s have no "
            f"'{task.target}'{beyond}"
        )


class SideTasks(nn.Module):
    """Heads on a backbone.

    Args:
        model: the tagger.
        tasks: from `build_tasks`.
        probe: a few jets.
        outputs: columns of the tagger's outputs.

    Raises:
        ConfigError: the tagger keeps no row a constituent, or no layer for its jets.
    """

    def __init__(self, model: nn.Module, tasks: Sequence[Task], probe: JetBatch, outputs: int) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self._outputs: dict[str, list[Tensor]] = {}  # by what a row is
        self._rows: dict[str, int] = {}
        self._sorted = False
        self._back: Tensor | None = None  # where each constituent's row is, of a model that sorts its jets
        model.register_forward_pre_hook(lambda module, given: self._begin(given[0]))
        places = find_layers(model, probe, outputs)
        self._sorted = "constituent" in places and places["constituent"].by_count
        widths = {}
        for of in sorted({task.of for task in tasks}):
            if of not in places:
                what = "row for each constituent" if of == "constituent" else "last linear layer"
                raise ConfigError(
                    f"{identity_of(model).name or type(model).__name__} has no {what} to put a head on",
                    where="auxiliary",
                    mend="use a tagger such as pfn, particlenet or lorentznet",
                )
            widths[of] = places[of].width
            self._watch(places[of].module, of)
        self.heads = nn.ModuleDict(
            {task.module: nn.Linear(widths[task.of], task.objective.outputs) for task in tasks}
        )
        self.sums: dict[str, Tensor] = {}

    def _watch(self, layer: nn.Module, of: str) -> None:
        if of == "jet":
            layer.register_forward_pre_hook(lambda module, given: self._take("jet", given[0]))
        else:
            layer.register_forward_hook(lambda module, given, out: self._take("constituent", _first(out)))

    def _begin(self, batch: JetBatch) -> None:
        self._outputs = {"jet": [], "constituent": []}
        self._rows = {"jet": len(batch), "constituent": batch.four_momenta.shape[0]}
        self._back = rows_by_count(batch) if self._sorted else None

    def _take(self, of: str, rows: Tensor) -> None:
        _keep(self._outputs[of], rows, self._rows[of])

    def parameters_of(self, task: Task) -> Tensor:
        """The head's outputs for the batch that the model has just seen, [B or ΣN, outputs]."""
        rows = torch.cat(self._outputs[task.of])
        if task.of == "constituent" and self._back is not None:
            rows = rows.index_select(0, self._back)
        head = self.heads[task.module]
        assert isinstance(head, nn.Linear)
        out: Tensor = head(rows.to(head.weight.dtype))
        return out

    def loss(self, batch: JetBatch) -> Tensor:
        """The weighted sum of the tasks' mean losses on the batch that the model has just seen, a scalar."""
        total = batch.four_momenta.new_zeros(())
        for task in self.tasks:
            nll, *_ = self._measured(task, batch)
            if len(nll):
                total = total + task.weight * nll.mean()
        return total

    @torch.no_grad()
    def measure(self, batch: JetBatch) -> None:
        """Takes in the batch that the model has just seen, for `figures`."""
        for task in self.tasks:
            self.add(task, *self._measured(task, batch))

    def add(
        self, task: Task, nll: Tensor, parameters: Tensor, target: Tensor, lacking: Tensor | None = None
    ) -> None:
        """Adds up what `figures` needs of some targets, and of how many more there is none."""
        predictions = task.objective.activation(parameters.double())
        if task.objective.task == "regression":
            residual = predictions[:, 0] - target.double()
            rows = (nll.double(), residual.square(), residual, torch.ones_like(residual))
        else:
            right = (predictions.argmax(dim=1) == target).double()
            rows = (nll.double(), right, torch.zeros_like(right), torch.ones_like(right))
        none = rows[0].new_zeros(()) if lacking is None else lacking.to(rows[0])
        sums = torch.stack([*(row.sum() for row in rows), none])
        self.sums[task.name] = self.sums.get(task.name, torch.zeros_like(sums)) + sums

    def figures(self, reduce: Any = None) -> dict[str, dict[str, float]]:
        """Loss with rmse and bias, or accuracy, of each task since the last call; nothing of these where no
        jet had a target, and `without_target`, how many had none, where there are any.

        Args:
            reduce: adds up a tensor over ranks.
        """
        sums, self.sums = self.sums, {}
        out: dict[str, dict[str, float]] = {}
        for task in self.tasks:
            if task.name not in sums:
                continue
            values = sums[task.name] if reduce is None else reduce(sums[task.name])
            loss, first, second, count, lacking = values.tolist()
            of_task = {"without_target": lacking} if lacking else {}
            if count:
                of_task["loss"] = loss / count
                if task.objective.task == "regression":
                    of_task |= {"rmse": math.sqrt(first / count), "bias": second / count}
                else:
                    of_task["accuracy"] = first / count
            out[task.name] = of_task
        return out

    def _measured(self, task: Task, batch: JetBatch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Losses, outputs and targets where there is a target, and how many have none."""
        target, parameters = task.values(batch), self.parameters_of(task)
        known = task.known(target)
        if task.objective.task == "classification":
            target = torch.where(known, target, 0.0).long()
        nll = task.objective.negative_log_likelihood(parameters[known], target[known])
        return nll, parameters[known], target[known], (~known).sum()


@dataclass(frozen=True)
class Place:
    """A layer that a head reads.

    Args:
        module: the layer; heads of jets read its input, heads of constituents its output.
        width: columns of that.
        by_count: whether the rows are of jets sorted by their number of constituents.
    """

    module: nn.Module
    width: int
    by_count: bool = False


def find_layers(model: nn.Module, probe: JetBatch, outputs: int) -> dict[str, Place]:
    """The layers whose input (`jet`) and output (`constituent`) heads can read.

    Constituents' rows are taken where they are seen to follow the jets, in the order of the batch or in that
    of their numbers of constituents, when the jets of the probe come in another order.
    """
    first = next(model.parameters())
    probe = probe.to(first.device).to(first.dtype)
    places: dict[str, Place] = {}
    turned = torch.arange(len(probe) - 1, -1, -1, device=first.device)
    once, again = (_watched(model, batch, outputs, places) for batch in (probe, probe.at(turned)))
    there, _ = rows_in_order(probe.offsets, turned)
    back, back_again = rows_by_count(probe), rows_by_count(probe.at(turned))
    for module in reversed(once):
        rows, other = once[module], again.get(module)
        if other is None or not len(rows) == len(other) == len(there):
            continue
        in_order = _alike(rows[there], other)
        if in_order or _alike(rows[back][there], other[back_again]):
            places["constituent"] = Place(module, rows.shape[1], by_count=not in_order)
            break
    return places


def probe_jets(counts: np.ndarray) -> np.ndarray:
    """Positions of a few jets for `find_layers`, whose numbers of constituents differ where any do."""
    by_count = np.argsort(counts, kind="stable")
    spread = by_count[np.unique(np.linspace(0, len(counts) - 1, min(PROBE, len(counts))).astype(np.int64))]
    return np.asarray(np.sort(spread))


def rows_by_count(batch: JetBatch) -> Tensor:
    """Where each constituent of a batch is once its jets are sorted by their number of constituents, [ΣN]."""
    order, _ = rows_in_order(batch.offsets, torch.argsort(batch.counts, stable=True), len(batch.four_momenta))
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    return back


def _watched(
    model: nn.Module, probe: JetBatch, outputs: int, places: dict[str, Place]
) -> dict[nn.Module, Tensor]:
    """The rows that layers make of the constituents of a probe, by layer, that of the last one last; the
    place of a head of jets is put into `places`."""
    rows, jets = probe.four_momenta.shape[0], len(probe)
    made: dict[nn.Module, list[Tensor]] = {}

    def look(module: nn.Module, given: tuple[Any, ...], out: Any) -> None:
        tensor = _first(out)
        if not isinstance(tensor, Tensor) or tensor.ndim != 2:
            return
        if isinstance(module, nn.Linear) and tensor.shape == (jets, outputs):
            places["jet"] = Place(module, module.in_features)
        if tensor.shape[1] > 1 and tensor.is_floating_point():
            kept = made.pop(module, [])
            _keep(kept, tensor, rows)
            made[module] = kept

    hooks = [module.register_forward_hook(look) for module in model.modules() if module is not model]
    try:
        with torch.no_grad(), evaluation_mode(model):
            model(probe)
    finally:
        for hook in hooks:
            hook.remove()
    return {
        module: torch.cat(kept)
        for module, kept in made.items()
        if sum(map(len, kept)) == rows and len({piece.shape[1] for piece in kept}) == 1
    }


def _keep(kept: list[Tensor], rows: Tensor, number: int) -> None:
    """Keeps what a layer has seen or made: of a model that takes a few jets at a time, all pieces; of one
    that asks the layer again, the last answer."""
    kept.append(rows)
    while len(kept) > 1 and sum(map(len, kept)) > number:
        kept.pop(0)


def _alike(a: Tensor, b: Tensor) -> bool:
    """Whether two sets of rows are the same but for the order of sums."""
    return bool(((a - b).abs().max() <= 1e-3 * a.abs().max().clamp_min(1e-12)).item()) if len(a) else False


def _first(out: Any) -> Any:
    return out[0] if isinstance(out, tuple) and out else out
