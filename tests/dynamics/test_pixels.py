"""The pixel pendulum: frames show the angle, can be read back, and teach a law."""

from __future__ import annotations

import math

import pytest
import torch

from hepml.dynamics.evaluation import Reference, Rollouts, energy_report
from hepml.dynamics.fitting import FitSettings
from hepml.dynamics.pixels import (
    FRAME,
    LARGEST_ANGLE,
    PixelLaw,
    PixelPendulum,
    fit_pixels,
    follow_pixels,
    make_frames,
    notebook_energies,
    pixel_loss,
    published_loss,
    read_angle,
    read_states,
    render,
)
from hepml.errors import ConfigError


def test_angle_can_be_read_from_a_frame() -> None:
    angle = torch.linspace(-0.7, 0.7, 41, dtype=torch.float64)
    assert (read_angle(render(angle)) - angle).abs().max() < 1e-3


def test_frames_show_the_rod_at_half_brightness_within_the_picture() -> None:
    frames = make_frames(trajectories=10, frames=50, seed=2).pixels.unflatten(-1, (28, 28))
    assert float(frames.max()) == pytest.approx(127 / 255)
    assert torch.equal(frames, (255 * frames).round() / 255)
    for edge in (frames[..., 0, :], frames[..., -1, :], frames[..., 0], frames[..., -1]):
        assert (edge == 0).all()


def test_frames_are_mirror_images_for_opposite_angles() -> None:
    left, right = render(torch.tensor([-0.4, 0.4])).view(2, 28, 28)
    assert torch.allclose(left, right.flip(-1), atol=1e-6)


def test_state_read_from_two_frames_is_the_true_one_half_way_and_has_the_true_energy() -> None:
    data = make_frames(trajectories=5, frames=20, seed=1)
    stacked = torch.cat((data.pixels[:, :-1], data.pixels[:, 1:]), dim=-1).double()
    assert (read_states(stacked) - data.between()).abs().max() < 0.01
    system = PixelPendulum()
    error = system.hamiltonian(read_states(stacked)) - system.hamiltonian(data.between())
    assert error.square().mean() < 1e-6
    # what lies half way is conserved; Gym's momentum lags behind its angle, and their energy goes up and down
    spread = [float(system.hamiltonian(z).std(dim=1).mean()) for z in (data.between(), data.states)]
    assert spread[0] < 1e-3
    assert spread[1] > 5 * spread[0]


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


@pytest.mark.parametrize(("components", "by_frame"), [(None, False), (16, False), (16, True)])
def test_autoencoder_and_law_learn_together(components: int | None, by_frame: bool) -> None:
    train, test = make_frames(20, 30, seed=0), make_frames(4, 30, seed=1)
    torch.manual_seed(0)
    model = PixelLaw(law="hnn", width=50, hidden=(50, 50), components=components, by_frame=by_frame)
    model.look(train)
    before = published_loss(model, test)
    settings = FitSettings(steps=60, batch_size=50, every=20)
    _, after, history = fit_pixels(model, train, test, settings)
    assert after < 0.5 * before
    assert [entry["step"] for entry in history] == [0, 20, 40, 60]
    assert follow_pixels(model, test, trajectories=2).shape == (2, 29, 2)
    truth, found = notebook_energies(model, train, trajectories=2, frames=30)
    assert truth.states.shape == found.states.shape == (2, 29, 2)


def test_polishing_lowers_the_loss_and_leaves_single_precision() -> None:
    train, test = make_frames(10, 20, seed=0), make_frames(2, 20, seed=1)
    torch.manual_seed(0)
    model = PixelLaw(law="mechanical_hnn", width=16, hidden=(8, 8), components=8, by_frame=True)
    settings = FitSettings(
        steps=40, polish=40, every=20, batch_size=50, objective="steps", method="rk4", loss="relative"
    )
    _, _, history = fit_pixels(model, train, test, settings)
    assert [entry["step"] for entry in history] == [0, 20, 40, 60, 80]
    assert history[-1]["train_loss"] < 0.5 * history[2]["train_loss"]
    assert {w.dtype for w in model.parameters()} == {torch.float32}


def test_latents_by_frame_are_a_place_and_its_change() -> None:
    data = make_frames(3, 10, seed=0)
    model = PixelLaw(width=8, by_frame=True)
    now, then = data.pairs()
    z, after = model.encode(now), model.encode(then)
    assert torch.allclose(z[:, 1], after[:, 0] - z[:, 0], atol=1e-5)
    pictures = model.decode(z).unflatten(-1, (2, -1))
    again = model.decode(after).unflatten(-1, (2, -1))
    assert torch.allclose(pictures[:, 1], again[:, 0], atol=1e-5)


class SeesAngles(PixelLaw):
    """A model that reads and draws frames as we do, and moves by the true law with a friction."""

    def __init__(self, friction: float) -> None:
        super().__init__(width=4, by_frame=True)
        self.friction = friction

    def encode(self, seen: torch.Tensor) -> torch.Tensor:
        first, second = read_angle(seen.double().unflatten(-1, (2, -1))).unbind(-1)
        return torch.stack((first, second - first), dim=-1)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return render(torch.stack((z[..., 0], z.sum(-1)), dim=-1).double()).flatten(-2)

    def move(self, z: torch.Tensor) -> torch.Tensor:
        push = -2 * 1.875 * FRAME**2 * torch.sin(z[..., 0] + 0.5 * z[..., 1]) - self.friction * z[..., 1]
        return torch.stack((z[..., 1] - 0.5 * push, push), dim=-1)


def test_true_law_has_no_energy_error_in_frames_or_in_the_papers_notebook_and_a_damped_one_does() -> None:
    train, test = make_frames(10, 40, seed=0), make_frames(4, 60, seed=1)
    truth = Reference(test.between(), FRAME * torch.arange(59, dtype=torch.float64))
    errors = []
    for friction in (0.0, 0.02):
        model = SeesAngles(friction)
        shown = energy_report(PixelPendulum(), truth, Rollouts(follow_pixels(model, test, 4), 0))
        paper = energy_report(PixelPendulum(), *notebook_energies(model, train, trajectories=4, frames=60))
        errors.append((shown["energy_mse"], paper["energy_mse"]))
    (shown, paper), (shown_damped, paper_damped) = errors
    assert shown < 3e-6
    assert paper < 1.5e-5
    assert shown_damped > 100 * shown
    assert paper_damped > 20 * paper


def test_loss_on_principal_components_is_the_loss_on_the_pixels_that_they_restore() -> None:
    data = make_frames(10, 20, seed=0)
    torch.manual_seed(0)
    model = PixelLaw(law="hnn", width=20, hidden=(20, 20), components=24)
    model.look(data)
    now, then = data.pairs()
    with torch.no_grad():
        a, b = model.compress(now), model.compress(then)
        assert (model.restore(a) - now).square().mean() < 1e-5
        restored = (model.restore(model.decode(model.encode(a))) - now).square().mean()
        seen = pixel_loss(model, a, b).mean() - pixel_loss_without_picture(model, a, b)
    assert float(restored) == pytest.approx(float(seen), rel=1e-3)


def pixel_loss_without_picture(model: PixelLaw, now: torch.Tensor, then: torch.Tensor) -> torch.Tensor:
    """The law's and the coordinates' share of the loss."""
    z, after = model.encode(now), model.encode(then)
    moved = (after - z - model.move(z)).square().mean()
    return (z[:, 1:] - (after - z)[:, :1]).square().mean() + 0.1 * moved


@pytest.mark.parametrize("components", [0, 785])
def test_components_that_no_frame_has_are_refused(components: int) -> None:
    with pytest.raises(ConfigError, match="components of 784 pixels"):
        PixelLaw(components=components)


@pytest.mark.parametrize("wrong", [{"latent": 3}, {"autoencoder_activation": "sine"}])
def test_latents_without_a_velocity_and_unknown_activations_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=r"latent space of 3|unknown activation"):
        PixelLaw(**wrong)


def test_unknown_latent_step_is_refused() -> None:
    model = PixelLaw(width=8)
    now, then = make_frames(1, 4).pairs()
    with pytest.raises(ConfigError, match="euler or rk4"):
        pixel_loss(model, now, then, method="verlet")
