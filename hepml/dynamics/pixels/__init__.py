"""The pixel pendulum (arXiv:1906.01563, task 6): a law of motion learned from nothing but movies of 28 x 28
pixels.

`frames` makes the movies, `networks` has the autoencoder with its law, `training` teaches it, `judging` says
how well it conserves energy.
"""

from hepml.dynamics.pixels.frames import (
    FRAME,
    LARGEST_ANGLE,
    SIDE,
    Frames,
    PixelPendulum,
    make_frames,
    read_angle,
    read_states,
    render,
)
from hepml.dynamics.pixels.judging import follow_pixels, notebook_energies
from hepml.dynamics.pixels.networks import PixelLaw
from hepml.dynamics.pixels.training import fit_pixels, pixel_loss, published_loss

__all__ = [
    "FRAME",
    "LARGEST_ANGLE",
    "SIDE",
    "Frames",
    "PixelLaw",
    "PixelPendulum",
    "fit_pixels",
    "follow_pixels",
    "make_frames",
    "notebook_energies",
    "pixel_loss",
    "published_loss",
    "read_angle",
    "read_states",
    "render",
]
