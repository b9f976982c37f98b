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
from hepml.errors import DataError, HepmlError, LayoutError

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


SPELT = {  # as coffea's NanoEvents hands records on: the experiment's names and units
    "PFCand": {"pt": 30.0, "eta": 0.5, "phi": 1.0, "mass": 0.14, "d0": 0.02, "d0Err": 0.001, "dz": -0.1,
               "dzErr": 0.002, "charge": -1, "pdgId": 13, "puppiWeight": 1.0},
    "Track": {"PT": 30.0, "Eta": 0.5, "Phi": 1.0, "Mass": 0.14, "D0": 0.2, "ErrorD0": 0.01, "DZ": -1.0,
              "ErrorDZ": 0.02, "Charge": -1, "PID": 13, "pt": 30.0, "eta": 0.5, "phi": 1.0, "mass": 0.14},
    "TrackParticle": {"theta": 2 * np.arctan(np.exp(-0.5)), "phi": 1.0, "qOverP": -1e-3 / (30 * np.cosh(0.5)),
                      "d0": 0.2, "z0": -1.0, "pt": 3e4, "_eventindex": 0},
}  # fmt: skip


@pytest.mark.parametrize("record", SPELT)
def test_records_in_an_experiments_own_names_are_those_of_its_files(record: str) -> None:
    fields = {n: ak.Array([[x], [x, x]]) for n, x in SPELT[record].items()}
    fields["hits"] = ak.Array([[[1, 2]], [[], [3]]])  # no number a constituent: nobody's feature
    jets = ak.zip({"constituents": ak.zip(fields, with_name=record, depth_limit=2)}, depth_limit=1)
    batch = JetBatch.from_awkward(jets)
    pt, eta, phi = 30.0, 0.5, 1.0
    expected = torch.tensor([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], dtype=torch.float32)
    assert torch.allclose(batch.four_momenta[:, 1:], expected.expand(3, 3), rtol=1e-5)
    assert batch.raw["charge"].tolist() == [-1] * 3
    assert batch.raw["d0"].tolist() == pytest.approx([0.2] * 3)  # mm
    assert batch.raw["dz"].tolist() == pytest.approx([-1.0] * 3)
    if record != "TrackParticle":
        assert batch.raw["is_muon"].tolist() == [1] * 3
        assert batch.raw["d0_error"].tolist() == pytest.approx([0.01] * 3)
        assert batch.raw["dz_error"].tolist() == pytest.approx([0.02] * 3)
    assert "hits" not in batch.raw


def test_records_in_hepmls_own_names_stay_as_they_are() -> None:
    names = {"pt": 30.0, "eta": 0.5, "phi": 1.0, "mass": 0.14, "d0": 0.2, "d0_error": 0.01, "pdgId": 13.0}
    lists = ak.zip({n: ak.Array([[x]]) for n, x in names.items()})
    raw = JetBatch.from_awkward(ak.zip({"constituents": lists}, depth_limit=1)).raw
    assert {n: c.item() for n, c in raw.items()} == pytest.approx({"d0": 0.2, "d0_error": 0.01, "pdgId": 13})


def test_a_jet_column_that_is_not_finite_is_left_out_by_name_and_refused_where_asked_for() -> None:
    jets = _awkward(_padded(GOOD)[:2])
    jets["tag"], jets["width"] = [0.5, float("nan")], [1.0, 2.0]
    with pytest.warns(UserWarning, match=r"left out.*tag \(1 jets\)"):
        batch = JetBatch.from_awkward(jets)
    assert batch.jet_feature_names == ("width",)
    with pytest.raises(DataError, match="tag"):
        JetBatch.from_awkward(jets, jet_features=["tag"])


CANDIDATES = ak.Array(
    [
        [{"pt": 10.0, "eta": 0.1, "phi": 0.2, "mass": 0.0}],
        [{"pt": 5.0, "eta": 0.1, "phi": 0.2, "mass": 0.0}, {"pt": 4.0, "eta": 0.1, "phi": 0.3, "mass": 0.0}],
        [],
    ]
)


@pytest.mark.parametrize(
    "masked",
    [
        ak.mask(CANDIDATES, [True, True, True]),
        CANDIDATES.mask[CANDIDATES.pt > 0],
        ak.mask(CANDIDATES.mask[CANDIDATES.pt > 0], [True, True, True]),
        CANDIDATES[ak.Array([0, 1, 2])],
        CANDIDATES[ak.local_index(CANDIDATES.pt)],
    ],
    ids=["jets", "candidates", "both", "indexed", "indexed candidates"],
)
def test_option_types_without_missing_values_are_plain_jets(masked: ak.Array) -> None:
    plain = JetBatch.from_awkward(ak.Array({"constituents": CANDIDATES}), "kinematic")
    batch = JetBatch.from_awkward(ak.Array({"constituents": masked}), "kinematic")
    assert batch.offsets.tolist() == plain.offsets.tolist()
    assert torch.equal(batch.four_momenta, plain.four_momenta)


@pytest.mark.parametrize(
    ("constituents", "words"),
    [
        (ak.mask(CANDIDATES, [True, False, True]), "constituents of 1 jets are missing.*jet 1"),
        (CANDIDATES.mask[CANDIDATES.pt > 4.5], "1 constituents are missing.*jet 1.*drop_none"),
        (ak.Array([CANDIDATES.tolist()] * 2), "not one list of records a jet.*ak.flatten"),
        (ak.Array([[1.0], []]), "not one list of records a jet"),
        (CANDIDATES[["pt", "eta", "phi"]], "no four-momentum among pt, eta, phi"),
    ],
)
def test_constituents_that_are_none_are_named(constituents: ak.Array, words: str) -> None:
    with pytest.raises(HepmlError, match=words) as problem:
        JetBatch.from_awkward(ak.Array({"constituents": constituents}))
    assert "\n" not in str(problem.value)


def test_a_missing_number_of_a_constituent_is_bad_and_text_is_none() -> None:
    lists = CANDIDATES.tolist()
    lists[1][0]["mass"] = None
    with pytest.raises(DataError, match=r"NaN or infinite 'energy'.*jet 1"):
        JetBatch.from_awkward(ak.Array({"constituents": lists}))
    named = ak.with_field(CANDIDATES, ak.Array([["a"], ["b", "c"], []]), "name")
    assert len(JetBatch.from_awkward(ak.Array({"constituents": named}))) == 3


def test_one_jet_is_no_array_of_jets() -> None:
    jets = ak.Array({"constituents": CANDIDATES})
    with pytest.raises(LayoutError, match=r"an awkward array, not Record: one of them is jets\[:1\]"):
        JetBatch.from_awkward(jets[0])
