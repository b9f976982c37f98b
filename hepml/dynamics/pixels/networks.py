"""The autoencoder of arXiv:1906.01563 with a law of motion in its latent space, and the variant that knows
what a frame can show."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hepml.dynamics.networks import network
from hepml.dynamics.networks.basic import ACTIVATIONS
from hepml.dynamics.pixels.frames import SIDE, Frames
from hepml.errors import ConfigError


class PixelLaw(nn.Module):
    """An autoencoder of two stacked frames, and a law of motion in its latent space, in units of frames.

    With `components`, the autoencoder works on the principal components of single frames. They are fixed and
    orthonormal, so that squared errors are those of the pixels up to what the basis leaves out; a step costs
    a third, because most pixels never change.

    With `by_frame`, one autoencoder of single frames gives each frame w, a place without a velocity, and the
    latents are (w of the first, w of the second - w of the first): what the paper's canonical-coordinate loss
    asks for, exactly. The law then moves (mean of both, difference of both), a place and a velocity of the
    same moment, as a law with a kinetic energy needs them.

    Args:
        law: name of a network of `hepml.dynamics.networks`.
        latent: coordinates of the latent space; even.
        width: units of the autoencoder's layers.
        components: principal components of a frame that the autoencoder sees; the pixels themselves where
            None, as in the paper.
        by_frame: see above; not in the paper.
        autoencoder_activation: of the autoencoder; the paper has relu.
        law_arguments: of the law.

    Raises:
        ConfigError: more components than pixels, an odd latent space, an unknown activation.
    """

    basis: Tensor
    average: Tensor

    def __init__(
        self,
        law: str = "hnn",
        latent: int = 2,
        width: int = 200,
        components: int | None = None,
        by_frame: bool = False,
        autoencoder_activation: str = "relu",
        **law_arguments: object,
    ) -> None:
        super().__init__()
        if components is not None and not 0 < components <= SIDE * SIDE:
            raise ConfigError(
                f"{components} components of {SIDE * SIDE} pixels", mend="24 leave out almost nothing"
            )
        if latent < 2 or latent % 2:
            raise ConfigError(
                f"a latent space of {latent} coordinates", mend="give each place its velocity: 2, 4, …"
            )
        if autoencoder_activation not in ACTIVATIONS:
            raise ConfigError(
                f"unknown activation '{autoencoder_activation}'", mend=f"one of {', '.join(ACTIVATIONS)}"
            )
        self.components, self.by_frame = components, by_frame
        self.register_buffer("basis", torch.zeros(components or 0, SIDE * SIDE))
        self.register_buffer("average", torch.zeros(SIDE * SIDE))
        frames = 1 if by_frame else 2
        observation, coordinates = frames * (components or SIDE * SIDE), latent * frames // 2
        self.encoder = _Residual(observation, width, coordinates, autoencoder_activation)
        self.decoder = _Residual(coordinates, width, observation, autoencoder_activation)
        self.law = network(law, latent, **law_arguments)

    def look(self, data: Frames) -> None:
        """Finds the principal components of the frames of a training set; nothing to do where the pixels
        themselves are seen."""
        if self.components is None:
            return
        frames = data.pixels.flatten(0, 1)
        with torch.no_grad():
            self.average.copy_(frames.mean(0))
            scatter = torch.cov((frames - self.average).double().T)
            self.basis.copy_(torch.linalg.eigh(scatter).eigenvectors[:, -self.components :].T.flip(0))

    def compress(self, stacked: Tensor) -> Tensor:
        """What the encoder sees of stacked frames. Shapes: [..., 2 * 28 * 28] -> [..., 2 * components]."""
        if self.components is None:
            return stacked
        frames = stacked.unflatten(-1, (2, SIDE * SIDE)) - self.average
        out: Tensor = (frames @ self.basis.T).flatten(-2)
        return out

    def restore(self, observation: Tensor) -> Tensor:
        """Stacked frames from what the decoder gives. Shapes: [..., 2 * components] -> [..., 2 * 28 * 28]."""
        if self.components is None:
            return observation
        out: Tensor = (observation.unflatten(-1, (2, self.components)) @ self.basis + self.average).flatten(
            -2
        )
        return out

    def encode(self, observation: Tensor) -> Tensor:
        """Latent coordinates of what `compress` gives. Shapes: [..., 2 * components] -> [..., latent]."""
        if not self.by_frame:
            out: Tensor = self.encoder(observation)
            return out
        first, second = self.encoder(observation.unflatten(-1, (2, -1))).unbind(-2)
        return torch.cat((first, second - first), dim=-1)

    def decode(self, z: Tensor) -> Tensor:
        """The opposite. Shapes: [..., latent] -> [..., 2 * components]."""
        if not self.by_frame:
            out: Tensor = self.decoder(z)
            return out
        place, velocity = z.chunk(2, dim=-1)
        out = self.decoder(torch.stack((place, place + velocity), dim=-2)).flatten(-2)
        return out

    def move(self, z: Tensor) -> Tensor:
        """dz/dt for each frame. Shapes: [..., latent] -> [..., latent]."""
        if not self.by_frame:
            out: Tensor = self.law(z)
            return out
        place, velocity = z.chunk(2, dim=-1)
        d_place, d_velocity = self.law(torch.cat((place + 0.5 * velocity, velocity), dim=-1)).chunk(2, dim=-1)
        return torch.cat((d_place - 0.5 * d_velocity, d_velocity), dim=-1)


class _Residual(nn.Module):
    """Linear, two residual layers and a linear map, orthogonal, as the paper's autoencoder has on each
    side."""

    def __init__(self, inputs: int, hidden: int, outputs: int, activation: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Linear(a, b)
            for a, b in ((inputs, hidden), (hidden, hidden), (hidden, hidden), (hidden, outputs))
        )
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            nn.init.orthogonal_(layer.weight)
        self.act = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.layers[0](x))
        x = x + self.act(self.layers[1](x))
        x = x + self.act(self.layers[2](x))
        out: Tensor = self.layers[3](x)
        return out
