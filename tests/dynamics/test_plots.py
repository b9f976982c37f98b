"""Plots of motion: a law that is not finite everywhere is drawn where it is."""

from __future__ import annotations

import matplotlib.pyplot as plt
import torch

from hepml.dynamics.plots import TRUTH, vector_field
from hepml.dynamics.systems import Pendulum


class Singular:
    """The pendulum, with a hole and a pole: a law whose mass matrix has no inverse somewhere."""

    def __call__(self, z: torch.Tensor) -> torch.Tensor:
        dz = Pendulum().field(z).clone()
        dz[z[:, 0] > 1] = float("nan")
        dz[z[:, 0] < -1.5] = float("inf")
        return dz


def test_law_with_points_that_are_not_finite_is_drawn_where_it_is() -> None:
    figure = vector_field({TRUTH: Pendulum(), "singular": Singular()}, 2.0, cells=21)
    error = figure.axes[1].collections[0].get_array()
    assert error.mask.mean() > 0.2
    assert (
        error.compressed().max() == error.compressed().min()
    )  # exact everywhere else: all at the lower end of the scale
    figure.canvas.draw()
    plt.close(figure)
