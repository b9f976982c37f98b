"""`RunConfig`: where jets come from, which model, which objective, how it is trained, where it is recorded.

The `model` block is checked against the signature of the named model's constructor, the `objective` block
against that of the objective (`run_config.py`), so neither is described here.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from hepml.config import Schema
from hepml.training.data_config import DataConfig
from hepml.training.recipe_config import (
    AuxiliaryTask,
    DecorrelateConfig,
    DistillConfig,
    PretrainingConfig,
)
from hepml.training.report_config import EvaluationConfig, TrackingConfig
from hepml.training.training_config import TrainingConfig

# keys of the model block that are no hyperparameters of the model
MODEL_KEYS = ("name", "pretrained", "initialisation")


class RunConfig(Schema):
    """A run.

    Args:
        data: see `DataConfig`.
        model: `name` and that model's hyperparameters; `pretrained: PATH` starts from those weights and that
            architecture. With the `name` of the weights' own model, hyperparameters of the config go before
            those of the weights. `initialisation: published` starts as the paper does, also where a training
            begins far off with it.
        objective: bernoulli, categorical or gaussian, or `{name: …, …}`; categorical for classes and gaussian
            for a target where left out.
        training: see `TrainingConfig`.
        distill: learn from a teacher's scores; see `hepml.training.recipe_config`.
        decorrelate: keep the background's score independent of the jet mass.
        auxiliary: further heads by name, each with target, objective and weight.
        pretraining: learn from hidden constituents instead of labels.
        evaluation: see `EvaluationConfig`.
        tracking: see `TrackingConfig`.
        output: run folder; `runs/NAME-TIME` where left out.
        plugins: Python files or modules that register models of your own; imported before the config is
            checked.

    Examples:
        >>> hepml.training.load_run_config('quickstart').model_name
        'particlenet_lite'
    """

    data: DataConfig
    model: dict[str, Any] | str
    objective: dict[str, Any] | str | None = None
    training: TrainingConfig = TrainingConfig()
    distill: DistillConfig | None = None
    decorrelate: DecorrelateConfig | None = None
    auxiliary: dict[str, AuxiliaryTask] = Field(default_factory=dict)
    pretraining: PretrainingConfig | None = None
    evaluation: EvaluationConfig = EvaluationConfig()
    tracking: TrackingConfig = TrackingConfig()
    output: str | None = None
    plugins: list[str] = Field(default_factory=list)
    name: str | None = None

    @property
    def model_name(self) -> str | None:
        return self.model if isinstance(self.model, str) else self.model.get("name")

    @property
    def pretrained(self) -> str | None:
        """Weights to start from, from either of the two keys that may name them."""
        named = None if isinstance(self.model, str) else self.model.get("pretrained")
        return named or self.training.init_from

    @property
    def initialisation(self) -> Any:
        """`published`, or None for ours."""
        return None if isinstance(self.model, str) else self.model.get("initialisation")

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The model block without the keys that every model has."""
        if isinstance(self.model, str):
            return {}
        return {key: value for key, value in self.model.items() if key not in MODEL_KEYS}

    @property
    def objective_name(self) -> str:
        """The objective; where the config names none, that of a classification or a regression."""
        named = self.objective.get("name") if isinstance(self.objective, dict) else self.objective
        return str(named or ("gaussian" if self.data.target else "categorical"))

    @property
    def objective_arguments(self) -> dict[str, Any]:
        return (
            {k: v for k, v in self.objective.items() if k != "name"}
            if isinstance(self.objective, dict)
            else {}
        )
