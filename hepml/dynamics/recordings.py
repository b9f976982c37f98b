"""Recorded motion: arrays of one's own, `.npz` files of them, and the published table of a real pendulum."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hepml.data.reading.arrays import read_array, read_headers
from hepml.dynamics.integrators import check_finite
from hepml.dynamics.trajectories import Trajectories, differenced
from hepml.errors import DataError, FileError


def read_recording(path: Path | str) -> Trajectories:
    """Trajectories from a file: `.npz` as `read_trajectories` takes it, anything else as `read_pendulum`
    does."""
    return read_trajectories(path) if Path(path).suffix == ".npz" else read_pendulum(path)


def from_arrays(
    trajectories: Sequence[np.ndarray | Tensor],
    times: np.ndarray | Tensor,
    derivatives: Sequence[np.ndarray | Tensor] | None = None,
) -> Trajectories:
    """Recorded trajectories.

    Args:
        trajectories: each [T, 2 d], positions first, then momenta.
        times: [T], the same for all, rising.
        derivatives: of each, [T, 2 d]; forward differences, which cost the last time, where there are none.

    Raises:
        DataError: trajectories of unequal length, or with NaN or infinities, names the first; times that do
            not rise.
    """
    moments = torch.as_tensor(np.asarray(times), dtype=torch.float64)
    states = _stacked("trajectory", trajectories, len(moments))
    if (at := _fall(moments)) is not None:
        raise DataError(
            "times do not rise", where=f"time {at}", mend="sort the times and the states with them"
        )
    if derivatives is None:
        return differenced(states, moments)
    slopes = _stacked("derivative of trajectory", derivatives, len(moments))
    if slopes.shape != states.shape:
        raise DataError(
            f"derivatives have shape {tuple(slopes.shape)}, states {tuple(states.shape)}",
            mend="give one derivative a state",
        )
    return Trajectories(states, slopes, moments)


def read_trajectories(path: Path | str) -> Trajectories:
    """Recorded trajectories from an `.npz` file.

    The file has `times` [T], `states` [K, T, 2 d] (or [T, 2 d] of a single trajectory), positions first, then
    momenta, and where they were measured `derivatives` of the same shape.

    Raises:
        FileError: the file is missing or no such file.
        DataError: see `from_arrays`.
    """
    path = Path(path)
    try:
        there = sorted(read_headers(path))
        for name in ("times", "states"):
            if name not in there:
                raise FileError(
                    f"no array '{name}'", where=str(path), mend=f"it has: {', '.join(there) or 'none'}"
                )
        arrays = {
            name: read_array(path, name) for name in ("times", "states", "derivatives") if name in there
        }
    except DataError:  # arrays of objects
        raise FileError(
            "arrays of unequal lengths cannot be read",
            where=str(path),
            mend="cut or interpolate all trajectories to the same times: states [K, T, 2 d]",
        ) from None
    times = arrays.pop("times")
    whole = {name: list(a[None] if a.ndim == 2 else a) for name, a in arrays.items()}
    try:
        return from_arrays(whole["states"], times, whole.get("derivatives"))
    except DataError as problem:
        raise DataError(
            problem.what, where=", ".join(filter(None, (str(path), problem.where))), mend=problem.mend
        ) from None


def read_pendulum(path: Path | str) -> Trajectories:
    """The published recording of a real pendulum (Schmidt and Lipson, Science 324 (2009) 81:
    `real_pend_h_1.txt`), as one trajectory.

    The file is a text table: a first line `% NAMES` of the measured variables, then one row a time with
    trial, time, the variables, and their recorded derivatives. As in arXiv:1906.01563 the two variables
    are the state and derivatives are forward differences.

    Raises:
        FileError: the file is missing or not such a table.
        DataError: times that do not rise, or values that are not finite.
    """
    path = Path(path)
    try:
        lines = [
            line.strip().rstrip(",")
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
        ]
    except OSError as problem:
        raise FileError("cannot read the pendulum recording", where=str(path), mend=str(problem)) from None
    rows: list[list[float]] = []
    for number, line in enumerate(lines, start=1):
        if not line or line.startswith("%"):
            continue
        try:
            rows.append([float(word) for word in line.replace(",", " ").split()])
        except ValueError:
            raise FileError(
                "a row is not a list of numbers",
                where=f"{path}, line {number}",
                mend="see the format in docs/dynamics.md",
            ) from None
        if len(rows[-1]) != len(rows[0]) or len(rows[-1]) < 4:
            raise FileError(
                f"a row has {len(rows[-1])} columns, not {max(4, len(rows[0]))}",
                where=f"{path}, line {number}",
                mend="columns are: trial, time, angle, angular velocity, and their derivatives",
            )
    if len(rows) < 3:
        raise FileError(
            f"the recording has {len(rows)} rows", where=str(path), mend="give at least three times"
        )
    table = torch.tensor(rows, dtype=torch.float64)
    check_finite(table, f"values of {path}")
    if (at := _fall(table[:, 1])) is not None:
        raise DataError(
            "times do not rise",
            where=f"{path}, row {at + 1}",
            mend="keep one trial a file, in the order of time",
        )
    return differenced(table[None, :, 2:4], table[:, 1])


def _fall(times: Tensor) -> int | None:
    """Index of the first time that does not come after the one before it."""
    falls = (times.diff() <= 0).nonzero()
    return int(falls[0]) + 1 if len(falls) else None


def _stacked(what: str, arrays: Sequence[np.ndarray | Tensor], times: int) -> Tensor:
    """Arrays [T, 2 d] as one [K, T, 2 d], checked."""
    tensors = [torch.as_tensor(np.asarray(t), dtype=torch.float64) for t in arrays]
    if not tensors:
        raise DataError("there is no trajectory", mend="give at least one [T, 2 d] array")
    for i, t in enumerate(tensors):
        if t.ndim != 2 or t.shape != (times, tensors[0].shape[1]):
            raise DataError(
                f"{what} {i} has shape {tuple(t.shape)}, not "
                f"{(times, tensors[0].shape[1] if tensors[0].ndim == 2 else '2 d')}",
                mend="cut or interpolate all trajectories to the same times",
            )
    states = torch.stack(tensors)
    check_finite(states, "recorded states")
    return states
