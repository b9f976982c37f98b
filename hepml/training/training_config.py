"""The `training` block of a config: how a model is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hepml.config import Schema
from hepml.training.report_config import Positive, Share

Count = Annotated[int, Field(ge=1)]
Augment = Literal[
    "rotate_phi", "reflect_phi", "reflect_eta", "boost_z", "rotate_axis", "smear_soft", "split_collinear",
    "move_prong", "smear_momenta", "drop_soft", "split_wide",
]  # fmt: skip


class TrainingConfig(Schema):
    """How a model is trained.

    Args:
        epochs: passes over the training jets.
        batch_size: jets a step, summed over all devices.
        learning_rate: the schedule's largest.
        weight_decay: decoupled for adamw, L2 for the others.
        optimizer: adamw, adam, radam, nadam, sgd (with momentum 0.9), rmsprop, muon for hidden matrices
            with adamw for the rest, or soap (arXiv:2409.11321, best with betas of 0.95 and
            0.95).
        betas: decay rates of the Adam family.
        schedule: see `hepml.training.schedules`.
        warmup: epochs over which the learning rate rises linearly from zero before the schedule begins.
        final_learning_rate: what the schedule ends at, as a fraction of `learning_rate`.
        gradient_clip: largest norm of the gradient, or null.
        accumulate: batches whose gradients are added up to one step.
        average: decay of the moving average of weights over steps (0.999, say), which is then what is
            validated and saved as the model; none where left out.
        precision: 32, 64 or bf16-mixed.
        early_stopping: stop after so many epochs without a better `monitor`, or null.
        monitor: what "best" means: val_loss (lower) or val_auc (higher).
        seed: of weights, dropout, shuffling and augmentation.
        compile: run the model through torch.compile.
        buckets: train on batches of jets of similar length. Packed models gain nothing by it, and batch norms
            lose: their statistics are then those of one length at a time.
        init_from: a run, a checkpoint or published weights to start from, as `model.pretrained`; the last
            layer is new where outputs differ.
        pretrained_rate: learning rate of what the given weights brought, as a fraction of `learning_rate`,
            which new layers have.
        freeze: parameter name prefixes that are not trained (fine-tuning); their normalisations keep their
            statistics.
        freeze_norms: all batch norms keep the statistics they have: for weights that were trained with
            others, those of padded networks for instance.
        norm_batches: measure the statistics of batch norms by so many training batches before each
            validation, with the weights as they are (arXiv:2105.07576), in place of running averages, which
            lag behind where epochs have few steps.
        augment: random transformations of each training batch, see `hepml.training.augmentation`:
            rotate_phi, reflect_phi, reflect_eta, boost_z, rotate_axis, smear_soft, split_collinear,
            move_prong, smear_momenta, drop_soft, split_wide.
        device: auto, cpu or cuda.
        devices: processes that train together, of a node or in all; with 1 as many as torchrun or srun
            started.
        strategy: of several processes: ddp, each with all of the model; or fsdp, which shares out weights,
            gradients and optimizer state, for models that are too large for one device.
        synchronise_norms: whether batch norms measure the jets of all processes in each step, as one process
            would, or each its own, which spares the exchange.
        threads: CPU threads; all cores where left out.
        eval_batch_size: jets a step where no gradient is needed; twice `batch_size` where left out.
        checkpoint_every: also write last.ckpt every so many steps within an epoch.
        checkpoint_minutes: also write last.ckpt where the last one is so many minutes old.
    """

    epochs: Count = 20
    batch_size: Count = 512
    learning_rate: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    optimizer: Literal["adamw", "adam", "radam", "nadam", "sgd", "rmsprop", "muon", "soap"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Literal["constant", "cosine", "one_cycle", "particlenet", "flat_decay", "exponential"] = (
        "cosine"
    )
    warmup: Annotated[float, Field(ge=0.0)] = 0.0
    final_learning_rate: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    gradient_clip: Positive | None = None
    accumulate: Count = 1
    average: Share | None = None
    precision: Literal[32, 64, "32", "64", "bf16-mixed"] = 32
    early_stopping: Count | None = None
    monitor: Literal["val_loss", "val_auc"] = "val_loss"
    seed: Annotated[int, Field(ge=0)] = 0
    compile: bool = False
    buckets: bool = False
    init_from: str | None = None
    pretrained_rate: Positive = 1.0
    freeze: list[str] = Field(default_factory=list)
    freeze_norms: bool = False
    norm_batches: Count | None = None
    augment: list[Augment] = Field(default_factory=list)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: Count = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"
    synchronise_norms: bool = True
    threads: Count | None = None
    eval_batch_size: Count | None = None
    checkpoint_every: Count | None = None
    checkpoint_minutes: Positive = 10.0
