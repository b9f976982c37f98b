"""Lorentz Group Network (arXiv:2006.04780): particles that carry finite-dimensional irreps of the Lorentz
group.

Written from the paper's equations. Features of a particle are vectors of irreps (m, n), and all that is done
to them commutes with Lorentz transformations: complex linear maps of vectors of the same irrep,
Clebsch–Gordan products, messages weighted by functions of invariant distances, and ordinary networks on the
scalars (0, 0). An equivariant network gives the same answer in every frame; this one is evaluated in each
jet's rest frame, where no component is large, while invariant distances come from the momenta as they are.

The authors' released program (6,014 parameters) differs from the equations: momenta are input vectors too
(`vectors`), and jets are padded with zero momenta that send and receive messages (`nodes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.errors import ConfigError
from hepml.models.catalogue import register
from hepml.models.identity import Tagger
from hepml.nn.lorentz import packed_mass_squared, reference_vectors, root, with_references
from hepml.nn.lorentz.clebsch_gordan import decomposition, exchange_sign, invariant_product, products
from hepml.nn.lorentz.irreps import Irrep, from_four_vector
from hepml.nn.lorentz.rest_frame import to_rest_frame
from hepml.nn.lorentz.zonal import (
    VECTOR,
    Distances,
    Features,
    RadialFunctions,
    groups_of_similar_size,
    message_types,
    zonal_messages,
)
from hepml.packed.segments import segment_sum

SCALAR: Irrep = (0, 0)


@register(
    "lgn",
    head_scale=0.1,
    paper="arXiv:2006.04780",
    symmetries=("permutation", "lorentz"),
    published={"references": ("beam",)},
    parameters=4518,
)
class LGN(Tagger):
    """Lorentz Group Network: messages and Clebsch–Gordan products of irreps.

    Args:
        outputs: columns of the result.
        channels: vectors of each irrep at the input and after each Clebsch–Gordan level.
        maxdim: irreps (m, n) have m and n below this.
        basis: half the number of bells of which the functions of the distance are made.
        mlp_depth: hidden layers of the networks on scalars after each level.
        mlp_width: their width in units of the number of (real) scalars.
        references: names of reference vectors given as further particles (see `hepml.nn.lorentz.REFERENCES`),
            such as `[beam]`, which the published network has; none keeps the full Lorentz symmetry.
        scale: momenta in GeV are multiplied by it.
        frame: `rest` evaluates components in each jet's rest frame, `lab` in the frame of the momenta, which
            loses digits with the square of a boost; the outputs are the same but for rounding.
        max_constituents: keep only so many leading constituents; None keeps all.
        vectors: the momenta themselves are input vectors (1, 1), beside the scalars, as in the released
            network.
        nodes: particles and references that each jet is padded to with zero momenta, which send and receive
            messages as others do, and every particle sends to itself, at a constant weight: what the
            released network computes (128). None leaves absent particles out.
    """

    references: Tensor

    def __init__(
        self,
        outputs: int = 2,
        channels: Sequence[int] = (2, 4, 4, 2),
        maxdim: int = 3,
        basis: int = 10,
        mlp_depth: int = 3,
        mlp_width: int = 2,
        references: tuple[str, ...] = (),
        scale: float = 0.005,
        frame: Literal["rest", "lab"] = "rest",
        max_constituents: int | None = 126,
        vectors: bool = False,
        nodes: int | None = None,
    ) -> None:
        super().__init__()
        self.inputs = Inputs(max_constituents=max_constituents)
        self.scale, self.frame, self.nodes = scale, frame, nodes
        fixed = reference_vectors(references)
        self.embedding = nn.Linear(2 if len(fixed) else 1, 2 * channels[0], bias=not vectors)
        self.vectors = nn.Parameter(torch.randn(channels[0], 2) / (10 * channels[0])) if vectors else None
        if nodes is not None:
            _check_nodes(nodes, max_constituents, len(fixed))
            fixed = torch.cat((fixed, fixed.new_zeros(1, 4)))  # one stands for all that are absent
        self.register_buffer("references", fixed, persistent=False)
        irreps = [SCALAR, VECTOR] if vectors else [SCALAR]
        count = channels[0] * len(irreps)
        self.levels = nn.ModuleList()
        for before, after in pairwise(channels):
            level = Level(irreps, before, after, maxdim - 1, basis, mlp_depth, mlp_width)
            self.levels.append(level)
            irreps = level.irreps
            count += after * len(irreps)
        self.head = nn.Linear(2 * count, outputs)

    def forward(self, batch: JetBatch) -> Tensor:
        """Jets -> outputs. Shapes: B jets -> [B, outputs]."""
        with torch.autocast(
            batch.device.type, enabled=False
        ):  # products span too many orders of magnitude for 16 bits
            order = torch.argsort(batch.counts, stable=True)
            ordered = batch.take(order)
            x, offsets, is_reference = with_references(ordered.four_momenta, ordered.offsets, self.references)
            components = self._components(ordered, x, is_reference)
            parts, ends = [], offsets.tolist()
            for first, last in groups_of_similar_size(offsets.diff()):
                low, high = ends[first], ends[last]
                some, own = slice(low, high), offsets[first : last + 1] - low
                width = ends[last] - ends[last - 1]  # of the last, which is the largest
                parts.append(self._scores(x[some], components[some], is_reference[some], own, width))
            if not parts:
                logits: Tensor = self.head(self.head.weight.new_zeros((0, self.head.in_features)))
                return logits
            return torch.cat(parts)[torch.argsort(order)]

    def _components(self, batch: JetBatch, x: Tensor, is_reference: Tensor) -> Tensor:
        """Momenta and reference vectors in the frame of the network, [M, 4] in the dtype of the weights."""
        if self.frame == "rest":
            moved, frames = to_rest_frame(batch.four_momenta, batch.offsets)
            extra = len(self.references)
            beams = frames.boost(
                self.references.double().repeat(len(batch), 1),
                extra * torch.arange(len(batch) + 1, device=x.device),
            )
            x = x.double().masked_scatter(is_reference[:, None], beams)
            x = x.masked_scatter(~is_reference[:, None], moved.double())
        return (self.scale * x).to(self.head.weight.dtype)

    def _scores(
        self, x: Tensor, components: Tensor, is_reference: Tensor, offsets: Tensor, width: int
    ) -> Tensor:
        """Scores of a few jets of similar size, the largest of `width` rows. Shapes: [M, 4], [M, 4], [M],
        [b + 1] -> [b, outputs]."""
        dtype = components.dtype
        copies = None if self.nodes is None else self._copies(x, is_reference, offsets)
        distances = Distances.of(x, offsets, width, is_reference, self.scale, dtype, copies)
        vectors = from_four_vector(components)
        m2 = packed_mass_squared(x, offsets, is_reference)
        mass = (self.scale * root(m2.abs())).to(dtype)
        features = self._inputs(mass, is_reference, x, vectors)
        invariants = [_invariants(features)]
        for level in self.levels:
            features = level(features, vectors, distances)
            invariants.append(_invariants(features))
        scalars = torch.cat(invariants, dim=-1)
        out: Tensor = self.head(
            segment_sum(scalars if copies is None else scalars * copies[:, None], offsets)
        )
        return out

    def _inputs(self, mass: Tensor, is_reference: Tensor, x: Tensor, vectors: Tensor) -> Features:
        """What particles carry before the first level. Shapes: [M], [M], [M, 4], [M, 4] complex -> [C, M, d]
        each."""
        present = (x[:, 0] != 0).to(mass.dtype)
        label = (is_reference.to(mass.dtype) * present)[:, None]
        if self.vectors is None:
            scalars = torch.cat((mass[:, None], label), dim=-1)[:, : self.embedding.in_features]
            embedded = self.embedding(scalars)
            return {SCALAR: as_complex(embedded if self.nodes is None else embedded * present[:, None])}
        scalars = torch.cat((mass[:, None], 2 * label - 1), dim=-1)[:, : self.embedding.in_features]
        weight = torch.view_as_complex(self.vectors)
        return {SCALAR: as_complex(self.embedding(scalars)), VECTOR: weight[:, None, None] * vectors}

    def _copies(self, x: Tensor, is_reference: Tensor, offsets: Tensor) -> Tensor:
        """How many particles each stands for: 1, and all that are absent. Shapes: [M, 4], [M] -> [M]."""
        assert self.nodes is not None
        counts = offsets.diff()
        missing = torch.repeat_interleave(self.nodes + 1 - counts, counts, output_size=len(x))
        return torch.where(is_reference & (x[:, 0] == 0), missing, 1).to(self.head.weight.dtype)


def _check_nodes(nodes: int, max_constituents: int | None, references: int) -> None:
    if max_constituents is None or max_constituents + references > nodes:
        raise ConfigError(
            f"lgn: nodes is {nodes}, for up to {max_constituents} constituents and {references} references",
            mend=f"set max_constituents to at most {nodes - references}",
        )


class Level(nn.Module):
    """One Clebsch–Gordan level: F <- W [messages, F, F (x) F], and a network on the scalars of the result.

    Linear maps have a weight for both orders of a product of two irreps, and for products that vanish, as the
    published network does; products are computed once, and the weights summed.
    """

    def __init__(
        self,
        irreps: list[Irrep],
        before: int,
        after: int,
        largest: int,
        basis: int,
        mlp_depth: int,
        mlp_width: int,
    ) -> None:
        super().__init__()
        self.largest = largest
        self.radial = RadialFunctions(before, basis)
        types = message_types(irreps, largest)
        squares = {key: _squares_in(key, irreps, largest) for key in _square_types(irreps, largest)}
        self.irreps = sorted({*types, *squares})
        self.pairs = {key: square.unique for key, square in squares.items()}
        self.weights = nn.ParameterDict()
        for key in self.irreps:
            plain = types.get(key, 0) + (key in irreps)
            fold = torch.block_diag(
                torch.eye(plain), squares[key].fold if key in squares else torch.zeros(0, 0)
            )
            self.register_buffer(f"fold_{_name(key)}", fold, persistent=False)
            size = before * fold.shape[0]
            weight = torch.randn(after, size, 2) / max(after, size, 2)
            # As published: components of higher irreps are powers of momenta, and start small.
            self.weights[_name(key)] = nn.Parameter(weight / (10 ** key[0] if key[0] == key[1] else 1))
        widths = [2 * after, *(mlp_depth * [2 * after * mlp_width])]
        hidden = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), nn.LeakyReLU())]
        self.mlp = nn.Sequential(*hidden, nn.Linear(widths[-1], 2 * after))

    def forward(self, features: Features, vectors: Tensor, distances: Distances) -> Features:
        """Shapes: [C, M, d], [M, 4] complex -> [C', M, d] of `irreps`."""
        weights = self.radial(distances.values, distances.linked)
        sources = zonal_messages(features, vectors, weights, distances, self.largest)
        for key, own in features.items():
            sources.setdefault(key, []).append(own)
        squares = _squares(features, self.pairs)
        out = {}
        for key in self.irreps:
            stacked = torch.cat(sources.get(key, []) + squares.get(key, []))
            weight = torch.view_as_complex(self._folded(key, len(stacked)))
            out[key] = (weight @ stacked.flatten(1)).unflatten(-1, stacked.shape[1:])
        scalars = torch.view_as_real(out[SCALAR][..., 0]).permute(1, 0, 2).flatten(1)
        out[SCALAR] = as_complex(self.mlp(scalars))
        return out

    def _folded(self, key: Irrep, rows: int) -> Tensor:
        """Weights of the products that are made, [C', rows, 2] from [C', C · products, 2]."""
        fold: Tensor = getattr(self, f"fold_{_name(key)}")
        weight: Tensor = self.weights[_name(key)]
        weight = weight.unflatten(1, (fold.shape[0], -1))
        return torch.einsum("omcz,mu->oucz", weight, fold.to(weight.dtype)).reshape(len(weight), rows, 2)


class _Squares(NamedTuple):
    """The parts of F (x) F in one irrep: which products to make, and the map [all ordered products, those] of
    the weights."""

    unique: list[tuple[Irrep, Irrep]]
    fold: Tensor


def _squares_in(key: Irrep, irreps: list[Irrep], largest: int) -> _Squares:
    ordered = [(a, b) for a in irreps for b in irreps if key in decomposition(a, b, largest)]
    rising = [(a, b) for a, b in ordered if irreps.index(a) <= irreps.index(b)]
    unique = [(a, b) for a, b in rising if a != b or exchange_sign(a, b, key) > 0]
    fold = torch.zeros(len(ordered), len(unique))
    for row, (a, b) in enumerate(ordered):
        if (a, b) in unique:
            fold[row, unique.index((a, b))] = 1.0
        elif (b, a) in unique:
            fold[row, unique.index((b, a))] = exchange_sign(a, b, key)
    return _Squares(unique, fold)


def _square_types(irreps: list[Irrep], largest: int) -> list[Irrep]:
    return sorted({key for a in irreps for b in irreps for key in decomposition(a, b, largest)})


def _squares(features: Features, wanted: dict[Irrep, list[tuple[Irrep, Irrep]]]) -> dict[Irrep, list[Tensor]]:
    """The products of features with features that are wanted, by result."""
    squares: dict[tuple[Irrep, Irrep], dict[Irrep, Tensor]] = {}
    for pair in dict.fromkeys(pair for pairs in wanted.values() for pair in pairs):
        results = tuple(key for key, pairs in wanted.items() if pair in pairs)
        parts = products(features[pair[0]], features[pair[1]], *pair, results)
        squares[pair] = dict(zip(results, parts, strict=True))
    return {key: [squares[pair][key] for pair in pairs] for key, pairs in wanted.items()}


def _invariants(features: Features) -> Tensor:
    """Scalars, and v·v of the vectors of other irreps, as real columns. Shapes: [C, M, d] each -> [M, 2 C
    irreps]."""
    columns = [v[..., 0] if key == SCALAR else invariant_product(v, v, key) for key, v in features.items()]
    return torch.view_as_real(torch.cat(columns).T.contiguous()).flatten(1)


def as_complex(x: Tensor) -> Tensor:
    """Real columns as complex scalars. Shapes: [M, 2 C] -> [C, M, 1] complex."""
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()).T[..., None]


def _name(irrep: Irrep) -> str:
    return f"{irrep[0]}_{irrep[1]}"
