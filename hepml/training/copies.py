"""Changed copies of the training jets, which a teacher scores as it scores any jet: a student then learns the
teacher's answer between the jets of a small sample, and not at them alone.

Copies are the same for the same jets, names and seed: their scores are found in the cache again.
"""

from __future__ import annotations

import torch

from hepml.data import features as feature_table
from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.errors import ConfigError
from hepml.training import augmentation
from hepml.training.recipe_config import CopiesConfig

CHUNK = 2_000  # jets changed at a time


def changed_copies(whole: JetBatch, settings: CopiesConfig) -> JetBatch:
    """`settings.number` changed copies of each jet, one of all jets after another; four-momenta, and the
    jets' own momenta where they have them.

    Args:
        whole: jets with all their constituents.
        settings: how many, and which changes.
    """
    bare = JetBatch(whole.four_momenta, whole.offsets, jet_momenta=whole.jet_momenta)
    copies = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        for _ in range(settings.number):
            for first in range(0, len(bare), CHUNK):
                some = bare.slice(first, min(first + CHUNK, len(bare)))
                copies.append(augmentation.apply(settings.changes, some))
    return JetBatch.concatenate(copies)


def as_read(copies: JetBatch, inputs: Inputs) -> JetBatch:
    """Copies with what a model reads, so that they may join jets that were opened for it.

    Raises:
        ConfigError: the model reads what does not follow from momenta.
    """
    names = feature_table.resolve(inputs.features) if inputs.features else ()
    momentum = set(feature_table.MOMENTUM_COLUMNS)
    beyond = [n for n in names if not set(feature_table.lookup(n).needs) <= momentum]
    beyond += [*inputs.jet_features, *(name for name, _ in inputs.collections)]
    if beyond:
        raise ConfigError(
            f"changed copies have momenta alone, and {', '.join(beyond)} does not follow from them",
            where="distill.copies",
            mend="leave out distill.copies, or choose a model that reads momenta",
        )
    if inputs.max_constituents is not None:
        copies = copies.leading(inputs.max_constituents)
    return JetBatch(
        copies.four_momenta,
        copies.offsets,
        features=copies.select(names) if names else None,
        feature_names=names,
        labels=torch.full((len(copies),), -1, dtype=torch.int64),
        weights=torch.ones(len(copies), dtype=torch.float32),
        jet_momenta=copies.jet_momenta,
        extras={name: copies.extra(name) for name in inputs.extras},
    )


def summary(jets: int, settings: CopiesConfig) -> str:
    """How many copies, and how they were changed, as the line of a message."""
    return (
        f"copies: {settings.number * jets:,} of {jets:,} training jets, changed by "
        f"{', '.join(settings.changes)} (seed {settings.seed})"
    )
