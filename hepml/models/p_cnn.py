"""P-CNN: a one-dimensional ResNet along the constituents by falling transverse momentum (arXiv:1902.08570,
after CMS's DeepAK8)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from hepml.data import features as feature_table
from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.models.catalogue import register
from hepml.models.identity import Tagger
from hepml.nn.conv1d import Padded, PaddedBatchNorm, PaddedConv1d
from hepml.nn.feedforward import grouped_head
from hepml.packed.rectangle import to_dense
from hepml.representations.sequence import leading


@register(
    "p_cnn", paper="arXiv:1902.08570", symmetries=("permutation", "azimuthal-rotation"), parameters=349456
)
class ParticleCNN(Tagger):
    """P-CNN: residual convolutions of size 3 along the leading constituents, mean over the sequence, a fully
    connected head.

    Symmetry: permutations of the constituents, since they are put in order of transverse momentum first
    (up to exact ties), rotations about the beam. Inputs: standardised constituent features, zero where a
    jet has no more constituents.

    As published, the mean and the batch norms run over the padding too, so the length that jets are padded to
    is part of the network's definition. It is an argument here and the same for every batch: a jet's score
    does not depend on what else is in its batch. The steps of padding that no constituent reaches are the
    same for all jets and computed once a batch (`hepml.nn.conv1d`); the results are those of the padded
    network. Parameters have the names of the authors' implementation, whose state dict loads as it is.

    Args:
        outputs: columns of the result.
        features: names of constituent features, or a feature set.
        length: constituents that jets are cut and padded to.
        stem: channels of the first convolution.
        stages: channels of the two-convolution units of each stage; every stage but the first begins by
            halving the length.
        head: units of each fully connected layer after the mean.
        dropout: in the head.
    """

    def __init__(
        self,
        outputs: int = 2,
        features: str | Sequence[str] = "kinematic",
        length: int = 128,
        stem: int = 32,
        stages: Sequence[Sequence[int]] = ((64, 64), (64, 64), (128, 128)),
        head: Sequence[int] = (512,),
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        names = feature_table.resolve(features)
        self.length = length
        self.inputs = Inputs(names, max_constituents=length)
        self.fts_conv = nn.Sequential(
            PaddedBatchNorm(len(names)), PaddedConv1d(len(names), stem, 3, padding=1), PaddedBatchNorm(stem)
        )
        self.resnet_units = nn.ModuleDict()
        last = stem
        for i, stage in enumerate(stages):
            units = []
            for j, width in enumerate(stage):
                units.append(ResidualUnit(last, width, stride=2 if i > 0 and j == 0 else 1))
                last = width
            self.resnet_units[f"resnet_unit_{i}"] = nn.Sequential(*units)
        self.fc = grouped_head(last, head, outputs, dropout)

    def forward(self, batch: JetBatch) -> Tensor:
        """Logits, [B, outputs]."""
        rows, offsets = leading(batch, self.length)
        own = to_dense(batch.select(self.inputs.features)[rows], offsets, min(self.length, batch.max_count))
        x = Padded(own, own.new_zeros((1, self.length, own.shape[2])))
        x = self.fts_conv(x).map(nn.functional.relu)
        for stage in self.resnet_units.values():
            x = stage(x)
        logits: Tensor = self.fc(x.mean())
        return logits


class ResidualUnit(nn.Module):
    """x + relu(norm(conv(relu(norm(conv(x)))))), with a bare linear map of x where shapes change. `Padded` to
    `Padded`."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = PaddedConv1d(inputs, outputs, 3, stride=stride, padding=1)
        self.bn1 = PaddedBatchNorm(outputs)
        self.conv2 = PaddedConv1d(outputs, outputs, 3, padding=1)
        self.bn2 = PaddedBatchNorm(outputs)
        same = inputs == outputs and stride == 1
        self.conv_sc = None if same else PaddedConv1d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: Padded) -> Padded:
        y = self.bn1(self.conv1(x)).map(nn.functional.relu)
        y = self.bn2(self.conv2(y)).map(nn.functional.relu)
        out: Padded = y + (x if self.conv_sc is None else self.conv_sc(x))
        return out
