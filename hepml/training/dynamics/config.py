"""The schema of a dynamics run: which system, which data, which networks, how they are trained and judged,
and what the paper got."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from hepml import config as configs
from hepml.config import Schema
from hepml.dynamics.fitting import FitSettings
from hepml.errors import ConfigError, did_you_mean
from hepml.paths import check_name
from hepml.training.report_config import TrackingConfig

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0.0)]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]


class MotionConfig(Schema):
    """Trajectories to learn from.

    Args:
        trajectories, points, span: how many, how many times each, how long.
        noise: standard deviation of Gaussian noise on the states.
        train: share for training.
        test_first: the first trajectories are the test, not the last.
        split_in_time: split each trajectory in time instead of splitting the trajectories.
        finite_differences: derivatives from differences of measured states instead of exact ones.
        file: a recording instead of generated motion: `.npz` with times and states, or the published pendulum
            format; a single trajectory is split in time.
        seed: of initial states and noise; the run's seed where left out.
    """

    trajectories: Count = 50
    points: Annotated[int, Field(ge=3)] = 30
    span: Positive = 3.0
    noise: Annotated[float, Field(ge=0.0)] = 0.0
    train: Share = 0.5
    test_first: bool = False
    split_in_time: bool = False
    finite_differences: bool = False
    file: str | None = None
    seed: int | None = None


class FitConfig(Schema):
    """How a network is trained; what is left out is taken from the run's `training`. See
    `hepml.dynamics.fitting.FitSettings`."""

    steps: Count | None = None
    batch_size: Count | None = None
    learning_rate: Positive | None = None
    weight_decay: Annotated[float, Field(ge=0.0)] | None = None
    schedule: str | None = None
    average: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    polish: Annotated[int, Field(ge=0)] | None = None
    objective: str | None = None
    loss: str | None = None
    method: str | None = None
    horizon: Count | None = None
    substeps: Count | None = None
    law_weight: Positive | None = None
    every: Count | None = None


class EvaluationConfig(Schema):
    """Rollouts that are compared with the exact motion; see `hepml.dynamics.evaluation.reference`.

    Args:
        starts: box, notebook, sample or test.
        trajectories, span, points: how many, how long, how many times.
        seed: of starting points that are drawn (box, sample): other starts than those that a variant was
            chosen on.
        method: an integrator; `adaptive` as good as exact.
        tolerance: of adaptive ones.
        substeps: of those with fixed steps, between two times.
    """

    starts: str = "sample"
    trajectories: Count = 15
    span: Positive = 20.0
    points: Annotated[int, Field(ge=2)] = 100
    seed: int = 10_000
    method: str = "adaptive"
    tolerance: Positive = 1e-9
    substeps: Count = 1


class DynamicsConfig(Schema):
    """A dynamics run.

    Args:
        system: `name` and that system's arguments.
        data: see `MotionConfig`.
        models: label -> `name` of a network, its arguments, and `training` where it differs.
        training: see `FitConfig`; for every network that says nothing else.
        evaluation: see `EvaluationConfig`.
        published: label -> the paper's numbers, printed beside ours.
        paper: where they are from.
        seeds: one training of every network each; the summary has their means.
        animate: whether to write the gif.
        tracking: see `TrackingConfig`.
        output: run folder.
        name: of the run.
    """

    system: dict[str, Any]
    data: MotionConfig = MotionConfig()
    models: dict[str, dict[str, Any]]
    training: FitConfig = FitConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    published: dict[str, dict[str, float]] = Field(default_factory=dict)
    paper: str | None = None
    seeds: Annotated[list[int], Field(min_length=1)] = Field(default_factory=lambda: [0])
    animate: bool = True
    tracking: TrackingConfig = TrackingConfig()
    output: str | None = None
    name: str | None = None

    def settings(self, label: str) -> FitSettings:
        """How the network of that label is trained.

        Raises:
            ConfigError: a training key that is not known.
        """
        own = configs.validate(
            FitConfig,
            configs.from_mapping({"training": self.models[label].get("training") or {}}),
            ("training",),
        )
        merged = {**self.training.model_dump(exclude_none=True), **own.model_dump(exclude_none=True)}
        # A network that asks for full batches where the run has a batch size says so with batch_size: null.
        if "batch_size" in own.model_fields_set and own.batch_size is None:
            merged.pop("batch_size", None)
        return FitSettings(**merged)

    def architecture(self, label: str) -> tuple[str, dict[str, Any]]:
        """Name and arguments of the network of that label."""
        block = self.models[label]
        return str(block["name"]), {
            key: value for key, value in block.items() if key not in ("name", "training")
        }


def load_dynamics_config(
    path: Path | str, overrides: Iterable[str] = (), only: Sequence[str] = ()
) -> DynamicsConfig:
    """A dynamics config from a file and overrides, checked; a recording's path is made absolute against the
    config's folder.

    Args:
        path: of the YAML file.
        overrides: `key.sub=value`.
        only: labels of the networks to keep; all of them where empty.

    Raises:
        ConfigError: see `hepml.config`; a block without a name; a label in `only` that the config lacks.
    """
    raw = configs.load(path, overrides)
    config = configs.validate(DynamicsConfig, raw)
    if "name" not in config.system:
        raise ConfigError("missing key 'name'", where=raw.where(("system",)), mend="system: {name: spring}")
    if not config.models:
        raise ConfigError(
            "there is no network to train", where=raw.where(("models",)), mend="models: {hnn: {name: hnn}}"
        )
    for label in config.models:
        check_name(label, raw.where(("models", label)))
    for label in only:
        if label not in config.models:
            raise ConfigError(
                f"no network '{label}' in this config",
                where=str(path),
                mend=did_you_mean(label, config.models, noun="it has"),
            )
    if only:
        config.models = {label: block for label, block in config.models.items() if label in only}
    for label, block in config.models.items():
        if not isinstance(block.get("name"), str):
            raise ConfigError(
                "missing key 'name'",
                where=raw.where(("models", label)),
                mend=f"models: {{{label}: {{name: hnn}}}}",
            )
        config.settings(label)
    if (
        config.data.file is not None
        and not Path(config.data.file).exists()
        and not Path(config.data.file).is_absolute()
    ):
        config.data.file = str(Path(path).resolve().parent / config.data.file)
    if config.name is None:
        config.name = Path(path).stem
    return config
