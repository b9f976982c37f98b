"""The products of the space-time algebra: the geometric product, and the inner product that is
Lorentz-invariant.

Even elements (scalars and bivectors) multiply like complex 2x2 matrices, sigma_k being Pauli's and I the
imaginary unit. An odd element is N e_0 with an even N, for vectors v^0 + v^k sigma_k. Since e_0 M = M' e_0
with M' = adj(M)†,

    (M1 + N1 e_0)(M2 + N2 e_0) = (M1 M2 + N1 N2') + (M1 N2 + N1 M2') e_0,

which is [M1 N1], 2x4, times a 4x4 matrix: 32 complex multiplications, half of the 256 real ones of the
multiplication table.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hepml.nn.lorentz.algebra.multivectors import Multivectors, as_complex, as_real

METRIC = (1.0, -1.0, -1.0, -1.0)


def inner_product(x: Multivectors, y: Multivectors) -> Tensor:
    """The scalar part of reverse(x) y, channel by channel. Shapes: C channels each -> [..., C]."""
    signs = x.scalars.new_tensor(METRIC)[:, None]
    vectors = (x.vectors * y.vectors * signs).sum(-2)
    both = x.scalars * y.scalars + vectors - (x.bivectors * y.bivectors).sum(-2)
    plain, dual = both.unflatten(-1, (-1, 2)).unbind(-1)
    out: Tensor = plain - dual
    return out


def geometric_product(x: Multivectors, y: Multivectors) -> Multivectors:
    """x y, channel by channel. Shapes: C channels each, batches of the same shape -> C channels."""
    if torch.compiler.is_compiling():
        return _product_by_table(x, y)
    (a, b, c, d), (e, f, g, h) = _matrix(*_even(y)), _matrix(*_odd(y))
    right = (
        torch.stack((a, b, e, f)),
        torch.stack((c, d, g, h)),
        torch.stack((h, -g, d, -c)).conj(),
        torch.stack((-f, e, -b, a)).conj(),
    )
    (a, b, c, d), (e, f, g, h) = _matrix(*_even(x)), _matrix(*_odd(x))
    left = torch.stack((a, c)), torch.stack((b, d)), torch.stack((e, g)), torch.stack((f, h))
    result = sum(
        (i[:, None] * j for i, j in zip(left[1:], right[1:], strict=True)), left[0][:, None] * right[0]
    )
    (a, b, e, f), (c, d, g, h) = (row.unbind(0) for row in result.unbind(0))
    z, w = _from_matrix(a, b, c, d)
    n, v = _from_matrix(e, f, g, h)
    return Multivectors(as_real(z), as_real(torch.stack((n, *v), dim=-2)), as_real(torch.stack(w, dim=-2)))


def _even(x: Multivectors) -> tuple[Tensor, tuple[Tensor, ...]]:
    return as_complex(x.scalars), as_complex(x.bivectors).unbind(-2)


def _odd(x: Multivectors) -> tuple[Tensor, tuple[Tensor, ...]]:
    n, *v = as_complex(x.vectors).unbind(-2)
    return n, tuple(v)


def _matrix(z: Tensor, w: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """z + w_k sigma_k, row by row."""
    turned = w[1] * 1j
    return z + w[2], w[0] - turned, w[0] + turned, z - w[2]


def _from_matrix(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    return 0.5 * (a + d), (0.5 * (b + c), 0.5j * (b - c), 0.5 * (a - d))


def _product_by_table(x: Multivectors, y: Multivectors) -> Multivectors:
    """`geometric_product` by the multiplication table, for graphs: ONNX has no complex numbers, and this is
    few operators."""
    left, right = _components(x), _components(y)
    *batch, components, channels = right.shape
    device = right.device
    partner = torch.tensor(_PARTNERS, device=device).flatten()
    signs = torch.tensor(_SIGNS, dtype=right.dtype, device=device)[..., None]
    each = right.index_select(-2, partner).view(*batch, components, components, channels) * signs
    product = (left[..., None, :] * each).sum(-3)
    parts = product.unflatten(-2, (8, 2)).transpose(-1, -2).flatten(-2)
    return Multivectors(parts[..., 0, :], parts[..., 1:5, :], parts[..., 5:, :])


def _components(x: Multivectors) -> Tensor:
    """Plain and dual parts as rows, [..., 16, C]."""
    rows = torch.cat((x.scalars[..., None, :], x.vectors, x.bivectors), dim=-2)
    doubled: Tensor = rows.unflatten(-1, (rows.shape[-1] // 2, 2))
    return doubled.transpose(-1, -2).flatten(-3, -2)


def _table() -> tuple[list[list[int]], list[list[int]]]:
    """For components a and c the one component b with e_a e_b = ± e_c, and that sign."""
    rows = torch.eye(16, dtype=torch.float64).unflatten(1, (8, 2))

    def basis(at: Tensor) -> Multivectors:
        return Multivectors(rows[at][:, 0], rows[at][:, 1:5], rows[at][:, 5:])

    a, b = (n.flatten() for n in torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij"))
    table = _components(geometric_product(basis(a), basis(b)))[..., 0].view(16, 16, 16)
    partners = table.abs().argmax(dim=1)
    return partners.tolist(), table.gather(1, partners[:, None]).squeeze(1).round().int().tolist()


_PARTNERS, _SIGNS = _table()
