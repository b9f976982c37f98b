"""What is prepared before the first step of a training: jets, objective, a teacher's scores and the model, in
this order. What can go wrong with the user's files goes wrong here, before a folder is made; the search for a
learning rate begins the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from hepml.data.inputs import Inputs
from hepml.data.sampling.leaks import looked_at, told_by_inputs
from hepml.errors import ConfigError
from hepml.objectives import Objective
from hepml.training import distillation
from hepml.training.augmentation import refuse_stale
from hepml.training.building import Built, build_model, build_objective, given_model, model_inputs
from hepml.training.held_out import leaks
from hepml.training.jets import RunJets, check_tests, open_jets
from hepml.training.progress import Progress
from hepml.training.random_state import seed_everything
from hepml.training.run_config import RunConfig

LOOKED_AT = 20_000  # training jets in which inputs are compared with the classes
BLOCKS = 32  # in which they are taken


@dataclass(frozen=True)
class Prepared:
    """A training that can begin.

    Args:
        built: the model with the weights it starts from.
        objective: its head.
        jets: of the run, with those that a teacher alone labels.
        taught: a teacher's scores of the training jets, or None.
    """

    built: Built
    objective: Objective
    jets: RunJets
    taught: distillation.Targets | None


def prepare(config: RunConfig, progress: Progress) -> Prepared:
    """Opens the jets of a run and builds its model, which depends on `training.seed` alone.

    Raises:
        HepmlError: what the user can mend.
    """
    settings = config.training
    if settings.threads:
        torch.set_num_threads(settings.threads)
    seed_everything(settings.seed)
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("no CUDA device here", where="training.device", mend="training.device=auto")
    given = given_model(config)
    inputs = model_inputs(config, given)
    refuse_stale(settings.augment, inputs)
    if config.pretraining is None:
        jets = open_jets(config.data, inputs, progress.message)
    else:
        jets = _unlabelled(config, inputs, progress)
    for note in jets.notes:
        progress.message(note)
    if config.data.target is None:
        check_tests(jets)
    jets.leaks = [*leaks(config), *_told(config, inputs, jets)]
    for line in jets.leaks:
        progress.message(line)
    objective = build_objective(config, jets)
    taught = distillation.prepare(config, jets, inputs, objective, progress)
    seed_everything(settings.seed)
    return Prepared(build_model(config, given, objective, progress, jets), objective, jets, taught)


def _told(config: RunConfig, inputs: Inputs, jets: RunJets) -> list[str]:
    """Lines on inputs that alone tell a class of the training jets, or that are the target."""
    if config.pretraining is not None or not looked_at(inputs, config.data.target):
        return []
    count, size = len(jets.train), LOOKED_AT // BLOCKS
    # neighbouring jets from all over: of streamed jets few files are read again
    starts = np.linspace(0, max(count - size, 0), BLOCKS).astype(np.int64)
    some = np.unique(starts[:, None] + np.arange(min(size, count)))
    return told_by_inputs(jets.train.batch(some), inputs, jets.classes, config.data.target)


def _unlabelled(config: RunConfig, inputs: Inputs, progress: Progress) -> RunJets:
    """The jets of a pretraining, whose labels are not read. None is scored, since the outputs learn nothing:
    test files are not opened, and shares that the config holds out for tests stay held out."""
    if config.data.classes is not None:
        progress.message("pretraining reads no labels: data.classes leaves out no jets")
    jets = open_jets(config.data.without_test_files(), inputs, progress.message, labels=False)
    jets.tests = {}
    return jets
