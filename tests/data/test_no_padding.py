"""Padded tables: only rows of zeros are padding. What else is no particle is refused, never left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import awkward as ak
import numpy as np
import pytest

import hepml
from hepml.data.collider import momentum_of
from hepml.data.reading.inspection import inspect
from hepml.errors import DataError

h5py = pytest.importorskip("h5py")
Write = Callable[[np.ndarray, Path], Path]


def padded(jets: int = 6, width: int = 8, real: int = 5) -> np.ndarray:
    """[jets, width, 3] of (pT, eta, phi), the first `real` rows of each jet no padding."""
    rng = np.random.default_rng(0)
    x = np.zeros((jets, width, 3))
    x[:, :real] = np.stack(
        [
            rng.uniform(5, 50, (jets, real)),
            rng.normal(0, 0.1, (jets, real)),
            rng.normal(0, 0.1, (jets, real)),
        ],
        2,
    )
    return x


def energyflow(x: np.ndarray, folder: Path) -> Path:
    np.savez(folder / "x.npz", X=x, y=np.arange(len(x)) % 2)
    return folder / "x.npz"


def jetnet(x: np.ndarray, folder: Path) -> Path:
    with h5py.File(folder / "x.hdf5", "w") as file:
        file["particle_features"] = x[:, :, [1, 2, 0]] / [1, 1, 800]
        file["jet_features"] = np.tile([800.0, 0.0, 90.0, 5.0], (len(x), 1))
    return folder / "x.hdf5"


def masked_jetnet(x: np.ndarray, folder: Path) -> Path:
    mask = np.zeros((*x.shape[:2], 1))
    mask[:, :5] = 1
    with h5py.File(folder / "x.hdf5", "w") as file:
        file["particle_features"] = np.concatenate([x[:, :, [1, 2, 0]] / [1, 1, 800], mask], 2)
        file["jet_features"] = np.tile([800.0, 0.0, 90.0, 5.0], (len(x), 1))
    return folder / "x.hdf5"


def lhco(x: np.ndarray, folder: Path) -> Path:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("fastjet")
    rows = np.zeros((len(x), 2100))
    rows[:, : 3 * x.shape[1]] = x.reshape(len(x), -1)
    pandas.DataFrame(rows).to_hdf(folder / "x.h5", key="df", mode="w")
    return folder / "x.h5"


FORMATS = [energyflow, jetnet, masked_jetnet, lhco]


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize("pt", [np.nan, -5.0, np.inf])
def test_a_row_that_is_neither_a_particle_nor_padding_is_refused(
    write: Write, pt: float, tmp_path: Path
) -> None:
    x = padded()
    x[3, 1, 0] = pt
    with pytest.raises(DataError, match="repair the file"):
        hepml.read_jets(write(x, tmp_path))


@pytest.mark.parametrize("write", FORMATS)
def test_padding_between_particles_is_left_out(write: Write, tmp_path: Path) -> None:
    x = padded()
    x[:, 2] = 0
    jets = hepml.read_jets(write(x, tmp_path))
    first = jets[::2] if write is lhco else jets  # the second jet of such an event has no constituents
    assert ak.num(first.constituents).tolist() == [4] * 6
    pt = np.hypot(first.constituents.px, first.constituents.py)
    np.testing.assert_allclose(ak.to_numpy(ak.sum(pt, axis=1)), x[:, :, 0].sum(1), rtol=1e-5)


def test_a_mask_that_is_no_mask_is_refused(tmp_path: Path) -> None:
    path = masked_jetnet(padded(), tmp_path)
    with h5py.File(path, "r+") as file:
        file["particle_features"][4, 2, 3] = 0.5
    with pytest.raises(DataError, match=r"neither 0 nor 1.*jet 4"):
        hepml.read_jets(path)


def test_momenta_in_units_of_the_jet_are_said_to_be(tmp_path: Path) -> None:
    path = jetnet(padded(), tmp_path)
    with h5py.File(path, "r+") as file:
        del file["jet_features"]
    with pytest.warns(UserWarning, match="no jet_features: momenta are in units of the jet's pT"):
        jets = hepml.read_jets(path)
    np.testing.assert_allclose(ak.to_numpy(jets.constituents.pt)[0], padded()[0, :5, 0] / 800, rtol=1e-5)
    with pytest.warns(UserWarning, match="no jet_features"):
        assert inspect(path).units == "units of the jet's pT"


def test_unknown_particle_ids_are_counted(tmp_path: Path) -> None:
    ids = np.where(padded()[:, :, :1] > 0, 211, 0)
    ids[2, 1] = 3122
    with pytest.warns(UserWarning, match=r"1 constituents of .* particle ids that are not in hepml's table"):
        hepml.read_jets(energyflow(np.concatenate([padded(), ids], 2), tmp_path))


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32])
def test_momenta_from_collider_coordinates(kind: type) -> None:
    pt = np.array([10, 0, -10], dtype=kind)
    eta, phi = np.array([0.5, 999.9, 0.5], np.float32), np.array([0.3, 1.0, 0.3], np.float32)
    px, py, pz = momentum_of(pt, eta, phi)
    assert (px[1], py[1], pz[1]) == (0, 0, 0)
    assert np.isnan([px[2], py[2], pz[2]]).all()
    np.testing.assert_allclose(np.hypot(px[0], py[0]), 10, rtol=1e-6)
    np.testing.assert_allclose(np.arcsinh(pz[0] / 10), 0.5, rtol=1e-6)
