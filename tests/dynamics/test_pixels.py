"""The pixel pendulum: frames show the angle, can be read back, and teach a law."""

from __future__ import annotations

import math

import pytest
import torch

from hepml.dynamics.pixels import (
    FRAME,
    LARGEST_ANGLE,
    PixelLaw,
    PixelPendulum,
    fit_pixels,
    follow_pixels,
    make_frames,
    pixel_loss,
    published_loss,
    read_angle,
    read_states,
    render,
)
from hepml.errors import ConfigError


def test_angle_can_be_read_from_a_frame() -> None:
    angle = torch.linspace(-0.7, 0.7, 41, dtype=torch.float64)
    assert (read_angle(render(angle)) - angle).abs().max() < 3e-3


def test_frames_are_mirror_images_for_opposite_angles() -> None:
    left, right = render(torch.tensor([-0.4, 0.4])).view(2, 28, 28)
    assert torch.allclose(left, right.flip(-1), atol=1e-6)


def test_state_read_from_two_frames_is_the_true_one_half_way_and_has_the_true_energy() -> None:
    data = make_frames(trajectories=5, frames=20, seed=1)
    stacked = torch.cat((data.pixels[:, :-1], data.pixels[:, 1:]), dim=-1).double()
    middle = 0.5 * (data.states[:, 1:] + data.states[:, :-1])
    assert (read_states(stacked) - middle).abs().max() < 0.03
    system = PixelPendulum()
    energy = system.hamiltonian(read_states(stacked)) - system.hamiltonian(data.states)[:, :-1]
    assert energy.square().mean() < 3e-5


def test_pendulum_swings_as_gyms_does() -> None:
    # Gym: theta'' = -(3 g / 2 l) sin theta with g = 10 and l = 1, and 0.05 s a frame
    data = make_frames(trajectories=1, frames=200, seed=0)
    angle = data.states[0, :, 0]
    crossings = (angle[1:] * angle[:-1] < 0).nonzero().flatten()
    half_period = float((crossings[1:] - crossings[:-1]).double().mean())
    amplitude = float(angle.abs().max())
    small = math.pi / (math.sqrt(15) * 0.05)
    assert half_period == pytest.approx(small * (1 + amplitude**2 / 16), rel=0.02)
    assert data.states.shape[1] * FRAME == pytest.approx(20.0)
    assert amplitude < 1.2 * LARGEST_ANGLE + 0.2


@pytest.mark.parametrize("components", [None, 16])
def test_autoencoder_and_law_learn_together(components: int | None) -> None:
    train, test = make_frames(20, 30, seed=0), make_frames(4, 30, seed=1)
    torch.manual_seed(0)
    model = PixelLaw(law="hnn", width=50, hidden=(50, 50), components=components)
    model.look(train)
    before = published_loss(model, test)
    _, after, history = fit_pixels(model, train, test, steps=60, batch_size=50, every=20)
    assert after < 0.5 * before
    assert [entry["step"] for entry in history] == [0, 20, 40, 60]
    assert follow_pixels(model, test, trajectories=2).shape == (2, 29, 2)


def test_loss_on_principal_components_is_the_loss_on_the_pixels_that_they_restore() -> None:
    data = make_frames(10, 20, seed=0)
    torch.manual_seed(0)
    model = PixelLaw(law="hnn", width=20, hidden=(20, 20), components=24)
    model.look(data)
    now, then = data.pairs()
    with torch.no_grad():
        a, b = model.compress(now), model.compress(then)
        assert (model.restore(a) - now).square().mean() < 1e-6
        restored = (model.restore(model.decoder(model.encoder(a))) - now).square().mean()
        seen = pixel_loss(model, a, b).mean() - pixel_loss_without_picture(model, a, b)
    assert float(restored) == pytest.approx(float(seen), rel=1e-3)


def pixel_loss_without_picture(model: PixelLaw, now: torch.Tensor, then: torch.Tensor) -> torch.Tensor:
    """The law's and the coordinates' share of the loss."""
    z, after = model.encoder(now), model.encoder(then)
    moved = (after - z - model.law(z)).square().mean()
    return (z[:, 1:] - (after - z)[:, :1]).square().mean() + 0.1 * moved


@pytest.mark.parametrize("components", [0, 785])
def test_components_that_no_frame_has_are_refused(components: int) -> None:
    with pytest.raises(ConfigError, match="components of 784 pixels"):
        PixelLaw(components=components)


def test_unknown_latent_step_is_refused() -> None:
    model = PixelLaw(width=8)
    now, then = make_frames(1, 4).pairs()
    with pytest.raises(ConfigError, match="euler or rk4"):
        pixel_loss(model, now, then, method="verlet")
