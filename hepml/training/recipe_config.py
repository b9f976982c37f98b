"""The schema of what a run may do beside fitting labels: distilling a teacher, decorrelating, auxiliary
tasks, pretraining on hidden constituents.

These blocks are parts of `RunConfig`; what they do is in `hepml.training.distillation`, `.decorrelation`,
`.side_tasks` and `.pretraining`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from hepml.config import Schema
from hepml.training.training_config import Augment

Positive = Annotated[float, Field(gt=0.0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
CHANGES: list[Augment] = ["move_prong", "smear_momenta", "drop_soft", "split_wide"]  # of a copy


class Teacher(Schema):
    """One teacher; exactly one of the three says where it is.

    Args:
        pretrained: published weights: a path, or a name (`lorentznet_toptag`) found on the data path.
        run: a run folder or a checkpoint of hepml's.
        onnx: a tagger as `hepml export` writes it.
        weight: in the average of several teachers' log-probabilities.
    """

    pretrained: str | None = None
    run: str | None = None
    onnx: str | None = None
    weight: Positive = 1.0

    @model_validator(mode="after")
    def _one_source(self) -> Teacher:
        if sum(source is not None for source in (self.pretrained, self.run, self.onnx)) != 1:
            raise ValueError("a teacher with exactly one of pretrained, run and onnx")
        return self

    @property
    def source(self) -> str:
        """The path or name."""
        return str(self.pretrained or self.run or self.onnx)


class CopiesConfig(Schema):
    """Changed copies of the training jets, scored by the teacher as jets of their own.

    Args:
        number: of copies of each jet, beside the jet itself.
        changes: names of `hepml.training.augmentation.AUGMENTATIONS`, applied in this order.
        seed: of the random changes; the training's own seed does not enter, so that scores are found again.
    """

    number: Annotated[int, Field(ge=1)] = 1
    changes: Annotated[list[Augment], Field(min_length=1)] = Field(default_factory=CHANGES.copy)
    seed: Annotated[int, Field(ge=0)] = 0


class DistillConfig(Schema):
    """How a model learns from a teacher's scores (arXiv:1503.02531; for jets arXiv:2311.14160).

    Args:
        teacher: a teacher, or a list whose log-probabilities are averaged with their weights.
        temperature: both distributions are softened by it, and their cross-entropy is multiplied by its
            square, so that gradients keep their size.
        hard_labels: share of the loss that the labels keep; 0 learns from the teacher alone.
        weights: whether event weights count. A teacher's answer for a jet holds however often such jets
            come, so that without weights the same is learnt with less scatter.
        unlabelled: further jets, whose labels are not used, scored by the teacher.
        copies: changed copies of all these jets, scored by the teacher too: a number, or a block.
        cache: folder of the teachers' scores, kept by content; `.hepml/teachers` in the home folder where
            left out.
        batch_size: jets a step of the teacher.
    """

    teacher: Teacher | list[Teacher]
    temperature: Positive = 2.0
    hard_labels: Fraction = 0.0
    weights: bool = False
    unlabelled: str | list[str] | None = None
    copies: CopiesConfig | None = None
    cache: str | None = None
    batch_size: Annotated[int, Field(ge=1)] = 64

    @field_validator("copies", mode="before")
    @classmethod
    def _number_alone(cls, value: Any) -> Any:
        plain = isinstance(value, int) and not isinstance(value, bool)
        return ({"number": value} if value else None) if plain else value

    @property
    def teachers(self) -> list[Teacher]:
        return self.teacher if isinstance(self.teacher, list) else [self.teacher]

    def with_paths(self, absolute: Callable[[Any], Any], weights: Callable[[str], str]) -> DistillConfig:
        """The block with absolute paths.

        Args:
            absolute: of a path, or a list of paths, of the config.
            weights: of a path or name of published weights.
        """

        def located(one: Teacher) -> Teacher:
            if one.pretrained is not None:
                return one.model_copy(update={"pretrained": weights(one.pretrained)})
            return one.model_copy(
                update={key: absolute(v) for key in ("run", "onnx") if (v := getattr(one, key)) is not None}
            )

        teachers = [located(one) for one in self.teachers]
        unlabelled = None if self.unlabelled is None else absolute(self.unlabelled)
        teacher = teachers if isinstance(self.teacher, list) else teachers[0]
        return self.model_copy(update={"teacher": teacher, "unlabelled": unlabelled})


class DecorrelateConfig(Schema):
    """The penalty that keeps the score independent of a jet column on background jets (arXiv:2001.05310).

    Args:
        column: of the jets.
        strength: factor on the squared distance correlation, which lies between 0 and 1.
    """

    column: str = "jet_mass"
    strength: Positive = 1.0


class AuxiliaryTask(Schema):
    """A further head on the tagger's backbone.

    Args:
        target: jet column (`jet_mass`, or any of the file), or constituent column (`origin`).
        of: whether the target is one a jet or one a constituent.
        objective: gaussian (a number) or categorical (whole numbers from 0; negative ones are not known).
        weight: of its mean loss beside the tagger's.
        classes: of a categorical target; one more than the largest of the training jets where left out.
    """

    target: str
    of: Literal["jet", "constituent"] = "jet"
    objective: Literal["gaussian", "categorical"] = "gaussian"
    weight: Positive = 0.1
    classes: Annotated[int, Field(ge=2)] | None = None


class PretrainingConfig(Schema):
    """Masked-particle modelling in place of the labels' loss (after arXiv:2401.13537).

    Args:
        masked: share of the constituents whose momentum is hidden and guessed.
    """

    masked: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3
