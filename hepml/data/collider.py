"""From collider coordinates to momenta, for every layout that has them."""

from __future__ import annotations

import numpy as np


def momentum_of(
    pt: np.ndarray, eta: np.ndarray, phi: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(px, py, pz), in the unit and precision of `pt`.

    A negative pT, which no particle has, gives NaN, so that it is refused where chunks are screened, and not
    taken for a particle on the other side. Without transverse momentum pz is zero, whatever eta a file
    writes: Delphes has 999.9 there.
    """
    with np.errstate(all="ignore"):  # what overflows is screened
        kind = np.result_type(pt, np.float32).type
        size = np.where(pt < 0, kind(np.nan), pt)
        pz = np.where(size == 0, kind(0), size * np.sinh(eta))
        return size * np.cos(phi), size * np.sin(phi), pz
