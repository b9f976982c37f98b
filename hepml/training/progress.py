"""What a training run says while it runs: an interface that does nothing, so that a script may leave it out.

The command line gives one that draws a bar (`hepml.cli.console`); nothing in this room prints.
"""

from __future__ import annotations

from collections.abc import Mapping


class Progress:
    """Listens to a run; every method may be overridden, none needs to be.

    Examples:
        >>> class Told(hepml.training.Progress):
        ...     def epoch(self, epoch, values, best):
        ...         print(f'epoch {epoch + 1} is done')
        >>> keys = {'training.epochs': 2, 'data.max_jets': 200}
        >>> run = hepml.train('quickstart', model='mlp', progress=Told(), **keys)
        epoch 1 is done
        epoch 2 is done
    """

    def message(self, text: str) -> None:
        """One line worth telling: what was read, what was left out."""

    def begin(self, epochs: int, steps: int, jets: int, *, first_epoch: int = 0) -> None:
        """Training begins: epochs in all, steps and jets an epoch, the epoch to go on from."""

    def step(self, epoch: int, step: int, loss: float | None, jets: int) -> None:
        """A step is done; `loss` is the epoch's mean so far, where it is known without waiting; `jets` were
        in the step."""

    def epoch(self, epoch: int, values: Mapping[str, float], best: bool) -> None:
        """An epoch is done."""

    def scoring(self, name: str, done: int, jets: int) -> None:
        """Test jets scored so far."""

    def end(self) -> None:
        """Nothing more to come; called also after an error."""
