"""The view by energy-flow polynomials (arXiv:1712.07124): every multigraph of up to `degree` edges as one
number a jet.

    EFP_G = sum_{i_1 ... i_n} z_{i_1} ... z_{i_n} prod_{edges (k, l)} theta_{i_k i_l},
    theta = (delta_y^2 + delta_phi^2)^(beta / 2)

with z the share of the jet's scalar sum of pT and y the rapidity: the hadronic measure. They are infrared and
collinear safe. All of them are computed together by the contractions of `efp_plan`, for jets of similar
length at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial

import torch
from torch import Tensor

from hepml import kinematics
from hepml.data.batch import JetBatch
from hepml.data.extras import Extra, register
from hepml.packed.rectangle import to_dense
from hepml.packed.rectangular import mask_behind, spread
from hepml.packed.segments import rows_in_order, segment_sum
from hepml.representations.efp_graphs import Edges, connected, multigraphs
from hepml.representations.efp_plan import Plan, plan

# Entries of a pair matrix of the jets taken at a time: what a processor's cache holds a few of, and what
# keeps an accelerator busy.
_ENTRIES, _ENTRIES_ACCELERATOR = 1 << 16, 1 << 23


def extra(degree: int, beta: float) -> str:
    """The name under which these polynomials travel in `JetBatch.extras`, [B, polynomials]; registers what
    makes them."""
    name = f"efp_degree{degree}_beta{beta:g}"
    register(Extra(name, "jet", partial(polynomials, degree=degree, beta=beta), in_graph=True))
    return name


def energy_flow_polynomials(batch: JetBatch, degree: int, beta: float) -> Tensor:
    """All polynomials of up to `degree` edges, [B, polynomials], in the order of
    `efp_graphs.multigraphs(degree)`.

    Those that travel in the batch are taken, others made and kept, unless gradients of the four-momenta are
    asked for.
    """
    if torch.is_grad_enabled() and batch.four_momenta.requires_grad:
        return polynomials(batch.four_momenta, batch.offsets, degree, beta)
    return batch.extra(extra(degree, beta))


def polynomials(four_momenta: Tensor, offsets: Tensor, degree: int = 7, beta: float = 1.0) -> Tensor:
    """All polynomials of up to `degree` edges.

    Args:
        four_momenta: [ΣN, 4] (E, px, py, pz) in GeV.
        offsets: [B + 1].
        degree: most edges.
        beta: angular exponent.

    Returns:
        [B, polynomials] in the dtype of the momenta; a jet without constituents has one for the empty
        multigraph and zeros.
    """
    if mask_behind(offsets) is not None:
        return _of_rectangle(four_momenta, offsets, degree, beta)
    members = _members(degree).to(four_momenta.device)
    out = four_momenta.new_zeros((len(offsets) - 1, members.shape[1]))
    out[:, 0] = 1
    with torch.autocast(four_momenta.device.type, enabled=False):
        for jets, values in _connected(four_momenta, offsets, degree, beta):
            out = out.index_copy_(0, jets, _products(values, members))
    return out


def _of_rectangle(p: Tensor, offsets: Tensor, degree: int, beta: float) -> Tensor:
    """`polynomials` where jets stand in a rectangle: constituents that are absent have no share."""
    z, y, phi = to_dense(_table(p, offsets), offsets).unbind(-1)
    values = _contract(z.to(p.dtype), _theta(y, phi, beta, p.dtype), plan(degree))
    return _products(values, torch.tensor(_numbers(degree)))


def _products(values: Tensor, members: Tensor) -> Tensor:
    """Polynomials of all multigraphs from those of the connected ones: [K, connected] to [K, polynomials]."""
    padded = torch.cat((values, values.new_ones((values.shape[0], 1))), dim=1)
    product = padded[:, members[0]]
    for column in members[1:]:
        product = product * padded[:, column]
    return product


@cache
@torch.inference_mode(False)  # what is kept must serve training after a prediction
def _members(degree: int) -> Tensor:
    """`_numbers` as a tensor."""
    return torch.tensor(_numbers(degree))


@cache
def _numbers(degree: int) -> list[list[int]]:
    """The connected components of each multigraph by number, [degree, polynomials], filled up with the number
    behind the last."""
    primes: list[Edges] = [edges for d in range(1, degree + 1) for edges in connected(d)]
    at = {edges: i for i, edges in enumerate(primes)}
    rows = [[at[e] for e in graph] for graph in multigraphs(degree)]
    filled = [row + [len(primes)] * (degree - len(row)) for row in rows]
    return [list(column) for column in zip(*filled, strict=True)]


def _table(p: Tensor, offsets: Tensor) -> Tensor:
    """Share of the sum of pT, rapidity and azimuth of each constituent, [ΣN, 3]: in float64, since small
    distances are differences of large numbers."""
    exact = p.double()
    pt = kinematics.pt(exact)
    total = segment_sum(pt[:, None], offsets)[:, 0].clamp_min(1e-300)
    share = pt / spread(total, offsets, pt.shape[0])
    return torch.stack((share, _rapidity(exact), kinematics.phi(exact)), dim=-1)


def _theta(y: Tensor, phi: Tensor, beta: float, dtype: torch.dtype) -> Tensor:
    """Distances to the power of beta, [K, N] twice to [K, N, N]."""
    # what rounding of the momenta makes of one direction must stay one: beta < 1 would blow it up
    same = (64 * torch.finfo(dtype).eps) ** 2
    squared = (y[:, :, None] - y[:, None, :]).square()
    squared = squared + kinematics.delta_phi(phi[:, :, None], phi[:, None, :]).square()
    apart = squared > same  # and a power of zero has no gradient
    return torch.where(apart, torch.where(apart, squared, 1.0).pow(beta / 2), 0.0).to(dtype)


def _connected(p: Tensor, offsets: Tensor, degree: int, beta: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Positions of some jets of similar length, [K], and their polynomials of connected multigraphs, [K,
    connected]; all jets in turn."""
    contraction = plan(degree)
    counts = offsets.diff()
    if not len(counts) or not len(p):
        return
    table = _table(p, offsets)
    order = torch.argsort(counts, stable=True)
    sizes, first = counts[order].tolist(), 0
    entries = _ENTRIES if p.device.type == "cpu" else _ENTRIES_ACCELERATOR
    while first < len(sizes):
        last = first + 1
        while last < len(sizes) and (last - first + 1) * max(sizes[last], 8) ** 2 <= entries:
            last += 1
        which = order[first:last]
        z, y, phi = _dense(table, offsets, which, sizes[last - 1]).unbind(-1)
        yield which, _contract(z.to(p.dtype), _theta(y, phi, beta, p.dtype), contraction)
        first = last


def _dense(table: Tensor, offsets: Tensor, which: Tensor, width: int) -> Tensor:
    """The rows of these jets as [K, width, C], padded with zeros."""
    rows, own = rows_in_order(offsets, which)
    return to_dense(table[rows], own, width)


def _rapidity(p: Tensor) -> Tensor:
    """½ ln((E + |pz|) / (E - |pz|)) with the sign of pz, [ΣN], of momenta as they are given: also of those
    that rounding made space-like.

    The pseudorapidity where E does not even exceed |pz|; finite for a vanishing momentum.
    """
    e, px, py, pz = p.unbind(-1)
    along = pz.abs()
    massive = (e + along) * (e - along)
    squared = torch.where(massive > 0, massive, px * px + py * py)
    size = torch.where(massive > 0, e + along, (squared + along * along).sqrt() + along)
    return pz.sign() * 0.5 * torch.log(size.square().clamp_min(1e-300) / squared.clamp_min(1e-300))


def _contract(z: Tensor, theta: Tensor, contraction: Plan) -> Tensor:
    """The plan's polynomials of K jets: z [K, N], theta [K, N, N] to [K, connected]."""
    matrices: dict[int, Tensor] = {}
    vectors = {0: torch.ones_like(z)}
    weighted = {0: z}  # z times a vector

    def matrix(reference: int) -> Tensor:
        return matrices[reference] if reference >= 0 else matrices[~reference].transpose(1, 2)

    def weight(number: int) -> Tensor:
        if number not in weighted:
            weighted[number] = z * vectors[number]
        return weighted[number]

    for (kind, number), unused in zip(contraction.order, contraction.unused, strict=True):
        if kind == "m":
            matrices[number] = _matrix(contraction.matrices[number], theta, matrix, weight)
        else:
            vectors[number] = _vector(contraction.vectors[number], matrix, vectors, weight)
        for m in unused:
            del matrices[m]
    return _close(z, vectors, contraction)


def _matrix(
    part: tuple[object, ...], theta: Tensor, matrix: Callable[[int], Tensor], weight: Callable[[int], Tensor]
) -> Tensor:
    match part:
        case ("power", int(m)):
            return theta if m == 1 else theta**m
        case ("product", tuple(references)):
            out = matrix(references[0]) * matrix(references[1])
            for reference in references[2:]:
                out = out * matrix(reference)
            return out
        case ("chain", int(a), int(w), int(c)):
            return torch.bmm(matrix(a) * weight(w)[:, None, :], matrix(c))
        case ("diamond", int(a), int(b), int(m), int(c), int(d), int(v), int(w)):
            return _diamond(matrix(a), matrix(b), matrix(m), matrix(c), matrix(d), weight(v), weight(w))
    raise AssertionError(part)


def _vector(
    part: tuple[object, ...],
    matrix: Callable[[int], Tensor],
    vectors: dict[int, Tensor],
    weight: Callable[[int], Tensor],
) -> Tensor:
    match part:
        case ("branch", int(m), int(w)):
            return torch.bmm(matrix(m), weight(w)[:, :, None])[:, :, 0]
        case ("times", tuple(numbers)):
            out = vectors[numbers[0]] * vectors[numbers[1]]
            for number in numbers[2:]:
                out = out * vectors[number]
            return out
    raise AssertionError(part)


def _diamond(a: Tensor, b: Tensor, m: Tensor, c: Tensor, d: Tensor, v: Tensor, w: Tensor) -> Tensor:
    """T_ij = sum_kl A_ik B_jk v_k M_kl w_l C_il D_jl, row by row: N products of two N x N matrices, half of
    that where T is symmetric."""
    if torch.compiler.is_compiling():  # all rows together, N^3 numbers
        inner = (a * v[:, None])[:, :, :, None] * m[:, None] * (c * w[:, None])[:, :, None]
        return ((b[:, None] @ inner) * d[:, None]).sum(dim=3)
    out = a.new_empty(a.shape)
    symmetric = a is b and c is d
    for i in range(a.shape[1]):
        inner = (a[:, i] * v)[:, :, None] * m * (c[:, i] * w)[:, None, :]
        first = i if symmetric else 0
        row = (torch.bmm(b[:, first:], inner) * d[:, first:]).sum(dim=2)
        out[:, i, first:] = row
        if symmetric:
            out[:, first:, i] = row
    return out


def _close(z: Tensor, vectors: dict[int, Tensor], contraction: Plan) -> Tensor:
    """Sums over the last vertex, of multigraphs with as many vectors there at a time."""
    table = torch.stack([vectors[number] for number in contraction.closing_vectors])  # [V, K, N]
    parts = []
    for columns in contraction.closing_groups:
        product = table[columns[0]]
        for column in columns[1:]:
            product = product * table[column]
        parts.append(torch.einsum("vkn,kn->kv", product, z))
    return torch.cat(parts, dim=1)[:, contraction.closing_places]
