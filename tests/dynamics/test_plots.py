"""Plots of motion: a law that is not finite everywhere is drawn where it is."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from hepml.dynamics.plots import TRUTH, energy_in_time, vector_field
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


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.6, -0.6])
def test_no_curve_of_the_energy_leaves_its_panel(rate: float) -> None:
    times = torch.linspace(0, 20, 50, dtype=torch.float64)
    true = torch.full_like(times, -0.3)
    away = true + (rate > 0 or -1) * 0.05 * torch.exp(abs(rate) * times)
    curves = {TRUTH: true, "baseline": away, "hnn": true + 0.003 * torch.sin(times)}
    upper = energy_in_time(curves, times).axes[0]
    low, high = upper.get_ylim()
    assert len(upper.lines) == 3
    for line in upper.lines:
        y = np.asarray(line.get_ydata())
        assert low < y.min()
        assert y.max() < high
