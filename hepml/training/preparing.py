"""What is prepared before the first step of a training: jets, objective, a teacher's scores and the model, in
this order. What can go wrong with the user's files goes wrong here, before a folder is made; the search for a
learning rate begins the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from hepml.errors import ConfigError
from hepml.objectives import Objective
from hepml.training import distillation
from hepml.training.building import Built, build_model, build_objective, given_model, model_inputs
from hepml.training.jets import RunJets, check_tests, open_jets
from hepml.training.module import seed_everything
from hepml.training.progress import Progress
from hepml.training.run_config import RunConfig


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
    jets = open_jets(config.data, inputs, progress.message)
    for note in jets.notes:
        progress.message(note)
    if config.pretraining is not None:
        jets.tests = {}  # nothing is scored: the outputs have learnt nothing
    if config.data.target is None:
        check_tests(jets)
    objective = build_objective(config, jets)
    taught = distillation.prepare(config, jets, inputs, objective, progress)
    seed_everything(settings.seed)
    return Prepared(build_model(config, given, objective, progress, jets), objective, jets, taught)
