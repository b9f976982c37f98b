"""Jets that are handed over in Python are held to the rule for files: what no particle in a detector is, is
refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch
from toys import write_toy_jets

import hepml
from hepml.data.batch import JetBatch
from hepml.errors import DataError

BAD = {
    "NaN": (float("nan"), 1.0, 1.0, 1.0),
    "energy below momentum": (10.0, 60.0, 0.0, 80.0),
    "negative energy": (-100.0, 60.0, 0.0, 80.0),
    "no transverse momentum": (100.0, 0.0, 0.0, 100.0),
    "eta": (2e5, 1.0, 0.0, 2e5),
}
GOOD = (100.0, 60.0, 0.0, 80.0)


def _padded(bad: tuple[float, ...]) -> np.ndarray:
    p = np.tile(np.array(GOOD, dtype=np.float64), (3, 4, 1))
    p[1, 2] = bad
    p[2, 3] = 0  # padding
    return p


def _awkward(p: np.ndarray) -> ak.Array:
    names = ("energy", "px", "py", "pz")
    return ak.zip({"constituents": ak.zip({n: ak.Array(p[:, :, i].tolist()) for i, n in enumerate(names)})},
                  depth_limit=1)  # fmt: skip


@pytest.mark.parametrize("reason", BAD)
def test_unphysical_constituents_are_refused_at_every_door(reason: str) -> None:
    p = _padded(BAD[reason])
    model = hepml.models.create("pfn", phi=[4], f=[4])
    momenta, offsets = torch.from_numpy(p.reshape(-1, 4)), torch.arange(0, 13, 4)
    doors: dict[str, Any] = {
        "padded": lambda: hepml.predict(model, p),
        "awkward": lambda: hepml.predict(model, _awkward(p)),
        "from_awkward": lambda: JetBatch.from_awkward(_awkward(p)),
        "batch": lambda: hepml.predict(model, JetBatch(momenta, offsets)),
        "fit": lambda: hepml.HepmlClassifier("pfn", epochs=1).fit(p, [0, 1, 0]),
    }
    for door in doors.values():
        with pytest.raises(DataError, match="jet 1"):
            door()


def test_good_jets_and_padding_pass() -> None:
    p = _padded(GOOD)
    model = hepml.models.create("pfn", phi=[4], f=[4])
    assert np.isfinite(hepml.predict(model, p)).all()
    assert np.isfinite(hepml.predict(model, _awkward(p))).all()


def test_awkward_jets_can_be_dropped_and_are_counted() -> None:
    jets = _awkward(_padded(BAD["negative energy"]))
    with pytest.warns(UserWarning, match=r"1 jets dropped: negative energy"):
        assert len(JetBatch.from_awkward(jets, bad="drop")) == 2
    assert len(JetBatch.from_awkward(jets, bad="keep")) == 3


def test_what_reading_lets_through_packs(tmp_path: Path) -> None:
    path = tmp_path / "jets.root"
    write_toy_jets(path, 30)
    assert len(JetBatch.from_awkward(hepml.read_jets(path))) == 30


@pytest.mark.parametrize("kind", [complex, str, object])
def test_arrays_of_no_real_numbers_are_refused(kind: type) -> None:
    p = _padded(GOOD).astype(kind)
    for door in (lambda: hepml.predict(hepml.models.create("pfn", phi=[4], f=[4]), p),
                 lambda: JetBatch.from_arrays(p.reshape(-1, 4), [0, 4, 8, 12])):  # fmt: skip
        with pytest.raises(DataError, match="real numbers"):
            door()


def test_arrays_of_any_real_type_and_byte_order_have_one_score() -> None:
    p = np.round(_padded(GOOD))
    model = hepml.models.create("pfn", phi=[4], f=[4])
    want = hepml.predict(model, p)
    for kind in (np.float16, np.int32, np.uint16, np.uint64, ">f4", ">i8"):
        np.testing.assert_array_equal(hepml.predict(model, p.astype(kind)), want)


def test_numbers_that_torch_would_change_in_silence_are_refused() -> None:
    p = _padded(GOOD).reshape(-1, 4)
    with pytest.raises(DataError, match="offsets are not whole numbers"):
        JetBatch.from_arrays(p, [0, 4.5, 8, 12])
    with pytest.raises(DataError, match="too large"):
        JetBatch.from_arrays(p, [0, 4, 8, 12], labels=np.array([1, 2, 2**64 - 1], dtype=np.uint64))
    with pytest.raises(DataError, match="labels are NaN"):
        hepml.HepmlClassifier("pfn", epochs=1).fit(_padded(GOOD), [0, 1, np.nan])
