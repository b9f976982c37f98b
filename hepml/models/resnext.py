"""ResNeXt-50 on jet images (arXiv:1902.08570, arXiv:1902.09914; the network itself is arXiv:1611.05431)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.errors import ConfigError
from hepml.models.catalogue import register
from hepml.models.identity import Tagger
from hepml.nn.resnext import PictureBatchNorm, ResNeXtBlock
from hepml.representations.image import Centre, Flip, Intensity, Rotate, features_needed, jet_images


@register(
    "resnext",
    paper="arXiv:1902.08570",
    symmetries=("permutation", "azimuthal-rotation", "irc-safe"),
    parameters=1457314,
)
class ResNeXt(Tagger):
    """ResNeXt-50 on jet images: four stages of residual blocks with grouped convolutions, mean over the
    picture, one linear map.

    The published top tagger: ResNeXt-50 with 32 groups and a quarter of the usual channels everywhere but
    in its stem of 64, on pictures of 64 x 64 pixels of 0.025 around the jet axis. Symmetry: permutations
    of the constituents, rotations about the beam; infrared and collinear safe up to constituents that
    cross the border of a pixel, with the channel `pt`. Inputs: four-momenta.

    Args:
        outputs: columns of the result.
        pixels, half_width, centre, rotate, flip, intensity, channels: of the pictures
            (`hepml.representations.image.jet_images`).
        stem: channels of the first convolution.
        widths: channels of the grouped convolutions in each stage; a stage's output has twice as many.
        blocks: blocks of each stage; every stage but the first begins by halving the picture.
        groups: of the grouped convolutions.
        dropout: before the last linear map, in training.
    """

    def __init__(
        self,
        outputs: int = 2,
        pixels: int = 64,
        half_width: float = 0.8,
        centre: Centre = "axis",
        rotate: Rotate = "none",
        flip: Flip = "none",
        intensity: Intensity = "fraction",
        channels: Sequence[str] = ("pt",),
        stem: int = 64,
        widths: Sequence[int] = (32, 64, 128, 256),
        blocks: Sequence[int] = (3, 4, 6, 3),
        groups: int = 32,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        for width in widths:
            if width % groups:
                raise ConfigError(
                    f"{groups} groups do not divide a width of {width}",
                    mend="give widths that are multiples of groups",
                )
        self.pixels, self.half_width, self.channels = pixels, half_width, tuple(channels)
        self.centre, self.rotate, self.flip, self.intensity = centre, rotate, flip, intensity
        self.inputs = Inputs(features_needed(channels))
        self.stem = nn.Sequential(
            nn.Conv2d(len(channels), stem, 7, 2, 3, bias=False),
            PictureBatchNorm(stem),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )
        stages, last = [], stem
        for stage, (width, depth) in enumerate(zip(widths, blocks, strict=True)):
            for block in range(depth):
                stride = 2 if stage > 0 and block == 0 else 1
                stages.append(ResNeXtBlock(last, 2 * width, width, groups, stride, first=block == 0))
                last = 2 * width
        self.blocks = nn.Sequential(*stages)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, outputs))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, batch: JetBatch) -> Tensor:
        """Logits, [B, outputs]."""
        pictures = jet_images(
            batch,
            self.pixels,
            self.half_width,
            centre=self.centre,
            rotate=self.rotate,
            flip=self.flip,
            intensity=self.intensity,
            channels=self.channels,
        )
        x = self.blocks(self.stem(pictures.contiguous(memory_format=torch.channels_last)))
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits
