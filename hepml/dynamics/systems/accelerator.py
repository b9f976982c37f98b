"""A charged particle in accelerator magnets: the dipole that bends it, and the FODO lattice that keeps it in
the pipe.

Units: c = 1, momenta in units of the reference momentum, so that fields are curvatures (1/m) and gradients
are focusing strengths (1/m²).
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from hepml.dynamics.systems.base import Random, System, tensor
from hepml.errors import ConfigError


class Dipole(System):
    """A unit charge in a uniform magnetic field B e_z, H = |p - A|²/2 with A = B/2 (-y, x): not separable in
    canonical momenta.

    The orbit is a circle, run through with the cyclotron frequency B (unit mass and charge).

    Args:
        field_strength: B.
        spread: standard deviation of initial positions and kinetic momenta.
    """

    name: ClassVar[str] = "dipole"
    separable: ClassVar[bool] = False
    coordinates = ("x", "y", "px", "py")

    def __init__(self, field_strength: float = 1.0, spread: float = 0.7) -> None:
        if field_strength == 0:
            raise ConfigError("a dipole without field bends nothing", mend="give field_strength ≠ 0")
        self.field_strength, self.spread = field_strength, spread

    def kinetic_momentum(self, z: Tensor) -> Tensor:
        """Mass times velocity, p - A. Shapes: [..., 4] -> [..., 2]."""
        half = 0.5 * self.field_strength
        return torch.stack((z[..., 2] + half * z[..., 1], z[..., 3] - half * z[..., 0]), dim=-1)

    def hamiltonian(self, z: Tensor) -> Tensor:
        return 0.5 * self.kinetic_momentum(z).square().sum(-1)

    def exact(self, z0: Tensor, times: Tensor) -> Tensor:
        b = self.field_strength
        v = self.kinetic_momentum(z0)[:, None, :]
        c, s = torch.cos(b * times), torch.sin(b * times)
        vx, vy = v[..., 0] * c + v[..., 1] * s, v[..., 1] * c - v[..., 0] * s
        x = z0[:, None, 0] + (v[..., 0] * s + v[..., 1] * (1 - c)) / b
        y = z0[:, None, 1] + (v[..., 1] * s - v[..., 0] * (1 - c)) / b
        return torch.stack((x, y, vx - 0.5 * b * y, vy + 0.5 * b * x), dim=-1)

    def sample(self, count: int, generator: Random) -> Tensor:
        x, y, vx, vy = (self.spread * generator.standard_normal((count, 4))).T
        half = 0.5 * self.field_strength
        return tensor(np.stack((x, y, vx - half * y, vy + half * x), axis=1))


class Fodo(System):
    """Transverse motion through a FODO lattice, H(x, y, px, py; s) = (px² + py²)/2 + k(s) (x² - y²)/2, with
    path length s as time.

    A cell is a focusing quadrupole, a drift, a defocusing quadrupole and a drift, hard-edged, so that k(s)
    jumps. To keep H free of explicit time the path length and its conjugate travel along as a third pair, z =
    (x, y, s, px, py, ps) with H = H_transverse + ps and ds/dt = 1. H is not conserved in a cell; the
    Courant-Snyder invariants are, from cell to cell.

    Args:
        cell: length of a cell in m.
        quadrupole: length of each quadrupole in m.
        gradient: focusing strength k of the quadrupoles in 1/m².
        spread: standard deviation of initial transverse positions; momenta have it divided by the cell
            length.
    """

    name: ClassVar[str] = "fodo"
    conserves: ClassVar[bool] = False
    coordinates = ("x", "y", "s", "px", "py", "ps")

    def __init__(
        self, cell: float = 4.0, quadrupole: float = 0.5, gradient: float = 1.0, spread: float = 0.01
    ) -> None:
        if not 0 < 2 * quadrupole <= cell:
            raise ConfigError(
                f"two quadrupoles of {quadrupole} m do not fit a cell of {cell} m", mend="shorten them"
            )
        self.cell, self.quadrupole, self.gradient, self.spread = cell, quadrupole, gradient, spread
        # ends of the four elements within a cell, and the focusing strength in x of each
        self.ends = (quadrupole, cell / 2, cell / 2 + quadrupole, cell)
        self.strengths = (gradient, 0.0, -gradient, 0.0)
        for plane, matrix in zip("xy", self.cell_matrices(), strict=True):
            if abs(float(matrix.trace())) >= 2:
                raise ConfigError(
                    f"motion in {plane} is unstable (|trace| = {abs(float(matrix.trace())):.2f} ≥ 2)",
                    mend="weaken the gradient or shorten the cell",
                )

    def strength(self, s: Tensor) -> Tensor:
        """k at path length s. Shapes: [...] -> [...]."""
        at = torch.remainder(s, self.cell)
        ends = torch.tensor(self.ends[:3], dtype=s.dtype, device=s.device)
        return torch.tensor(self.strengths, dtype=s.dtype, device=s.device)[
            torch.bucketize(at, ends, right=True)
        ]

    def hamiltonian(self, z: Tensor) -> Tensor:
        x, y, s, px, py, ps = z.unbind(-1)
        return 0.5 * (px**2 + py**2) + 0.5 * self.strength(s) * (x**2 - y**2) + ps

    def force(self, q: Tensor) -> Tensor:
        x, y, s = q.unbind(-1)
        k = self.strength(s)
        return torch.stack((-k * x, k * y, torch.zeros_like(s)), dim=-1)

    def velocity(self, p: Tensor) -> Tensor:
        px, py, _ = p.unbind(-1)
        return torch.stack((px, py, torch.ones_like(px)), dim=-1)

    def cell_matrices(self) -> tuple[Tensor, Tensor]:
        """Transfer matrices of one cell in x and in y, each [2, 2], from s = 0."""
        x = y = torch.eye(2, dtype=torch.float64)
        begin = 0.0
        for end, k in zip(self.ends, self.strengths, strict=True):
            x, y = _transfer(k, end - begin) @ x, _transfer(-k, end - begin) @ y
            begin = end
        return x, y

    def phase_advance(self) -> tuple[float, float]:
        """Betatron phase advance of a cell in x and in y, in radians, from cos mu = trace/2."""
        x, y = self.cell_matrices()
        return math.acos(float(x.trace()) / 2), math.acos(float(y.trace()) / 2)

    def courant_snyder(self, z: Tensor) -> Tensor:
        """Invariants g x² + 2 a x x' + b x'² in x and in y at the beginning of a cell. Shapes: [..., 6] ->
        [..., 2]."""
        return self.invariants(z[..., :2], z[..., 3:5])

    def invariants(self, q: Tensor, p: Tensor) -> Tensor:
        """The same of (x, y) and (px, py). Shapes: [..., 2], [..., 2] -> [..., 2]."""
        forms = []
        for i, matrix in enumerate(self.cell_matrices()):
            m, u, v = matrix.to(q), q[..., i], p[..., i]
            # sin(mu) times the form: m12 x'² + (m11 - m22) x x' - m21 x², positive by the sign of m12
            form = m[0, 1] * v**2 + (m[0, 0] - m[1, 1]) * u * v - m[1, 0] * u**2
            forms.append(form / torch.sqrt(1 - (m.trace() / 2) ** 2) * torch.sign(m[0, 1]))
        return torch.stack(forms, dim=-1)

    def exact(self, z0: Tensor, times: Tensor) -> Tensor:
        """Transfer matrices from element to element; every state must start at s = 0, and `times` must rise
        from 0."""
        if bool((z0[:, 2] != 0).any()):
            raise ConfigError(
                "the exact solution of a lattice starts at s = 0", mend="set the third coordinate to 0"
            )
        states = []
        for t in times.tolist():
            x = y = torch.eye(2, dtype=torch.float64)
            whole = int(t // self.cell)
            mx, my = self.cell_matrices()
            x, y = torch.linalg.matrix_power(mx, whole), torch.linalg.matrix_power(my, whole)
            left, begin = t - whole * self.cell, 0.0
            for end, k in zip(self.ends, self.strengths, strict=True):
                length = min(left, end) - begin
                if length <= 0:
                    break
                x, y = _transfer(k, length) @ x, _transfer(-k, length) @ y
                begin = end
            xs = z0[:, [0, 3]] @ x.T.to(z0)
            ys = z0[:, [1, 4]] @ y.T.to(z0)
            s = torch.full_like(z0[:, 2], t)
            states.append(torch.stack((xs[:, 0], ys[:, 0], s, xs[:, 1], ys[:, 1], z0[:, 5]), dim=-1))
        return torch.stack(states, dim=1)

    def sample(self, count: int, generator: Random) -> Tensor:
        draws = self.spread * generator.standard_normal((count, 4))
        z = np.zeros((count, 6))
        z[:, :2], z[:, 3:5] = draws[:, :2], draws[:, 2:] / self.cell
        return tensor(z)


class FodoByCell(System):
    """The lattice seen once a cell, as a beam position monitor sees it: z = (x, y, px, py) in mm and mrad.

    Between the beginnings of two cells a state is multiplied by the cell's matrix, a turn by the phase
    advance mu on the ellipse of its Courant-Snyder invariant e. That is the flow of a conserved H = sum mu
    e/(2 L) for a path length L, L being the cell's length: what a Hamiltonian network finds from positions
    and momenta at the monitor alone is this invariant.

    Args:
        cell, quadrupole, gradient: see `Fodo`.
        spread: standard deviation of initial positions in mm; momenta have it divided by the cell length in
            m.
    """

    name: ClassVar[str] = "fodo_by_cell"
    separable: ClassVar[bool] = False
    space: ClassVar[int] = 1
    coordinates = ("x", "y", "px", "py")

    def __init__(
        self, cell: float = 4.0, quadrupole: float = 0.5, gradient: float = 1.0, spread: float = 1.0
    ) -> None:
        self.lattice, self.spread = Fodo(cell, quadrupole, gradient), spread
        # the sense of rotation goes with the sign of m12, as that of the invariant's form does
        turns = [
            mu * float(m[0, 1].sign())
            for mu, m in zip(self.lattice.phase_advance(), self.lattice.cell_matrices(), strict=True)
        ]
        self.rates = torch.tensor(turns, dtype=torch.float64) / cell

    def hamiltonian(self, z: Tensor) -> Tensor:
        q, p = z.chunk(2, dim=-1)
        return 0.5 * (self.lattice.invariants(q, p) * self.rates.to(z)).sum(-1)

    def exact(self, z0: Tensor, times: Tensor) -> Tensor:
        rotated = []
        for i, (matrix, rate) in enumerate(zip(self.lattice.cell_matrices(), self.rates, strict=True)):
            angle = rate * self.lattice.cell
            # M = cos(mu) + sin(mu) J with J² = -1 (Courant and Snyder, Ann. Phys. 3 (1958) 1)
            turn = (matrix - torch.cos(angle) * torch.eye(2, dtype=torch.float64)) / torch.sin(angle)
            z = z0[:, [i, i + 2]]
            phase = (rate * times)[:, None].to(z0)
            rotated.append(torch.cos(phase) * z[:, None] + torch.sin(phase) * (z @ turn.T.to(z0))[:, None])
        x, y = rotated
        return torch.stack((x[..., 0], y[..., 0], x[..., 1], y[..., 1]), dim=-1)

    def sample(self, count: int, generator: Random) -> Tensor:
        draws = self.spread * generator.standard_normal((count, 4))
        draws[:, 2:] /= self.lattice.cell
        return tensor(draws)


def _transfer(k: float, length: float) -> Tensor:
    """Transfer matrix of a quadrupole of strength k (focusing where positive) or, at k = 0, of a drift."""
    if k == 0:
        return torch.tensor([[1.0, length], [0.0, 1.0]], dtype=torch.float64)
    w = math.sqrt(abs(k))
    c, s = (math.cos, math.sin) if k > 0 else (math.cosh, math.sinh)
    return torch.tensor(
        [[c(w * length), s(w * length) / w], [-math.copysign(w, k) * s(w * length), c(w * length)]],
        dtype=torch.float64,
    )
