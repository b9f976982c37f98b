"""Arrays that users hand over, as tensors, and what they must fulfil to be packed jets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hepml.data.reading.screen import unphysical
from hepml.errors import DataError


def as_tensor(values: Any) -> Tensor:
    """A tensor that views the values where their dtype allows.

    Raises:
        DataError: no real numbers (complex ones, text, objects), or integers beyond 64 bits with sign.
    """
    if isinstance(values, Tensor):
        if values.is_complex():
            raise DataError("complex numbers where real ones belong", mend="give real numbers")
        return values
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        kind = "complex numbers" if array.dtype.kind == "c" else f"values of type {array.dtype}"
        raise DataError(f"{kind} where real numbers belong", mend="give arrays of integers or floats")
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        if array.dtype.itemsize == 8 and array.size and int(array.max()) > np.iinfo(np.int64).max:
            raise DataError(f"the integer {int(array.max())} is too large", mend="give integers of 64 bits")
        array = array.astype(np.int64)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if not array.flags.writeable:  # torch views writable memory only
        array = array.copy()
    return torch.from_numpy(np.ascontiguousarray(array))


def whole(values: Tensor, name: str) -> Tensor:
    """The values as int64.

    Raises:
        DataError: they are no whole numbers.
    """
    if values.is_floating_point() and not bool((values == values.round()).all()):
        raise DataError(f"{name} are not whole numbers", mend="give integers")
    return values.to(torch.int64)


def check_rows(name: str, t: Tensor | None, jets: int) -> None:
    """Raises DataError unless there is one row a jet."""
    if t is not None and t.shape[:1] != (jets,):
        raise DataError(f"{name} have shape {tuple(t.shape)} for {jets} jets", mend="give one row a jet")


def check_numbers(name: str, t: Tensor | None, jets: int, *, columns: bool = False) -> None:
    """Raises DataError unless there is one finite number a jet (or, with `columns`, a row of them): anything
    else would be another jet's."""
    if t is None:
        return
    check_rows(name, t, jets)
    if t.ndim > 1 + columns:
        raise DataError(
            f"{name} have shape {tuple(t.shape)} for {jets} jets", mend="give one number a jet, [B]"
        )
    if t.is_floating_point() and not bool(torch.isfinite(t).all()):
        bad = int((~torch.isfinite(t)).reshape(jets, -1).any(dim=1).nonzero()[0])
        raise DataError(f"NaN or infinite {name}", where=f"jet {bad}", mend="drop or repair that jet")


def check_packed(p: Tensor, offsets: Tensor) -> None:
    """Raises DataError unless these are four-momenta, packed and finite."""
    if p.ndim != 2 or p.shape[1] != 4:
        raise DataError(
            f"four_momenta have shape {tuple(p.shape)}", mend="give [ΣN, 4] as (E, px, py, pz) in GeV"
        )
    if (
        offsets.ndim != 1
        or len(offsets) < 1
        or int(offsets[0]) != 0
        or int(offsets[-1]) != p.shape[0]
        or bool((offsets.diff() < 0).any())
    ):
        raise DataError(
            f"offsets do not rise from 0 to the {p.shape[0]} constituents",
            mend="give [B + 1] offsets, as numpy.concatenate([[0], numpy.cumsum(counts)])",
        )
    # a finite sum proves every term finite, and is quicker to take than looking at each
    if not bool(torch.isfinite(p.sum())) and not bool(torch.isfinite(p).all()):
        bad = int((~torch.isfinite(p)).any(dim=1).nonzero()[0])
        jet = int(torch.searchsorted(offsets, torch.tensor(bad, device=offsets.device), right=True)) - 1
        raise DataError(
            "NaN or infinite four-momentum",
            where=f"jet {jet}, constituent {bad - int(offsets[jet])}",
            mend="drop or repair that jet",
        )


def check_physical(p: Tensor, offsets: Tensor, *, at_rest: bool = False) -> None:
    """Refuses constituents that no particle in a detector is, by the rule that files are screened by
    (`hepml.data.reading.screen`). Rows of zeros are padding.

    Args:
        p: [ΣN, 4].
        offsets: [B + 1].
        at_rest: whether constituents without any momentum are none's fault (`Chunk.at_rest`).

    Raises:
        DataError: such a constituent; names its jet.
    """
    rows = p.detach().cpu().double().numpy()
    for reason, wrong in [
        ("NaN or infinite four-momentum", ~np.isfinite(rows).all(axis=1)),
        *unphysical(rows),
    ]:
        bad = wrong & rows.any(axis=1)
        if reason == "no transverse momentum" and at_rest:
            bad &= rows[:, 3] != 0
        if bad.any():
            first = int(np.argmax(bad))
            edges = offsets.cpu().numpy()
            jet = int(np.searchsorted(edges, first, side="right")) - 1
            jets = len(np.unique(np.searchsorted(edges, np.nonzero(bad)[0], side="right")))
            raise DataError(
                f"{reason}: (E, px, py, pz) = ({', '.join(f'{x:g}' for x in rows[first])})"
                + (f", in {jets} jets" if jets > 1 else ""),
                where=f"jet {jet}, constituent {first - int(edges[jet])}",
                mend="drop or repair such jets (momenta are (E, px, py, pz) in GeV)",
            )


def checked_mask(mask: Any) -> Tensor:
    """A mask as booleans [B, M]; numbers are true where they are not zero."""
    inside = as_tensor(mask)
    if inside.ndim != 2:
        raise DataError(f"the mask has shape {tuple(inside.shape)}", mend="give [jets, constituents]")
    return inside if inside.dtype == torch.bool else inside != 0


def packed(values: Any, mask: Tensor) -> Tensor:
    """The rows of a padded array [B, M, ...] that the mask [B, M] names, packed: [ΣN, ...].

    Raises:
        DataError: another shape than the mask's.
    """
    t = as_tensor(values)
    if t.shape[:2] != mask.shape:
        raise DataError(
            f"a padded array of shape {tuple(t.shape)} for a mask of shape {tuple(mask.shape)}",
            mend="give [jets, constituents, ...]",
        )
    return t[mask.to(t.device)]


def check_features(features: Tensor | None, names: Sequence[str], p: Tensor) -> None:
    """Refuses features that do not stand beside the momenta p, or have another number of names.

    Raises:
        DataError: either of these.
    """
    if features is None:
        return
    if features.ndim != 2 or features.shape[0] != p.shape[0]:
        raise DataError(
            f"features have shape {tuple(features.shape)}, four_momenta {tuple(p.shape)}",
            mend="give one row a constituent: [ΣN, F]",
        )
    if names and len(names) != features.shape[1]:
        raise DataError(
            f"{len(names)} feature names for {features.shape[1]} feature columns",
            mend="name each column once",
        )
