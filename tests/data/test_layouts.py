"""Layouts map any flat ntuple: collections, relative angles, constants, transforms, labels; mistakes are
named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch

from hepml.data.dataset import JetDataset
from hepml.data.inputs import Inputs
from hepml.data.reading.layouts import BUILT_IN, TRANSFORMS, Column, Layout, recognise
from hepml.data.reading.reader import classes_of, read_jets
from hepml.errors import ConfigError, HepmlError, LayoutError

TWO = {
    "name": "two_collections",
    "jet": {"eta": "j_eta", "phi": "j_phi"},
    "label": "flavour",
    "classes": ["light", "b"],
    "constituents": [
        {
            "pt": "c_pt",
            "delta_eta": "c_deta",
            "delta_phi": "c_dphi",
            "mass": 0.13957,
            "is_charged_hadron": 1,
            "d0": "c_ip",
        },
        {
            "pt": "n_pt",
            "delta_eta": "n_deta",
            "delta_phi": "n_dphi",
            "is_photon": {"branch": "n_had", "transform": "is_zero"},
        },
    ],
}


@pytest.fixture
def two_collections() -> dict[str, Any]:
    """Branches of 20 jets with charged and neutral candidates apart."""
    rng = np.random.default_rng(5)

    def lists(counts: np.ndarray, low: float, high: float) -> ak.Array:
        return ak.unflatten(rng.uniform(low, high, counts.sum()).astype(np.float32), counts)

    charged, neutral = rng.integers(1, 6, 20), rng.integers(0, 5, 20)
    return {
        "c_pt": lists(charged, 1, 50),
        "c_deta": lists(charged, -0.4, 0.4),
        "c_dphi": lists(charged, -0.4, 0.4),
        "c_ip": lists(charged, -1, 1),
        "n_pt": lists(neutral, 1, 50),
        "n_deta": lists(neutral, -0.4, 0.4),
        "n_dphi": lists(neutral, -0.4, 0.4),
        "n_had": ak.values_astype(lists(neutral, 0, 2), np.int32),
        "j_eta": rng.uniform(-2, 2, 20).astype(np.float32),
        "j_phi": rng.uniform(-3, 3, 20).astype(np.float32),
        "flavour": (np.arange(20) % 2).astype(np.int32),
    }


def test_two_collections_become_one_pt_ordered_list(write, two_collections) -> None:
    jets = read_jets(write(two_collections), TWO)
    pt = jets.constituents.pt
    assert ak.all(ak.num(pt) == ak.num(two_collections["c_pt"]) + ak.num(two_collections["n_pt"]))
    assert ak.all(pt[:, 1:] <= pt[:, :-1] * (1 + 1e-6))
    both = ak.sort(
        ak.concatenate([two_collections["c_pt"], two_collections["n_pt"]], axis=1), ascending=False
    )
    assert ak.all(ak.isclose(pt, both, rtol=1e-5))


def test_relative_angles_and_constants_give_four_momenta(write, two_collections) -> None:
    c = read_jets(write(two_collections), TWO).constituents
    charged = c.is_charged_hadron == 1
    assert ak.all(ak.isclose(c.mass[charged], 0.13957, atol=5e-2))
    eta = ak.flatten(c.eta[charged])
    expected = ak.flatten(
        (two_collections["c_deta"] + two_collections["j_eta"])[
            ak.argsort(-two_collections["c_pt"], stable=True)
        ]
    )
    assert np.allclose(eta, expected, atol=1e-4)
    assert ak.all(c.d0[~charged] == 0)
    assert ak.sum(c.is_photon) == ak.sum(two_collections["n_had"] == 0)


def test_integer_labels_have_the_layouts_class_names(write, two_collections) -> None:
    path = write(two_collections)
    assert classes_of(read_jets(path, TWO)) == ("light", "b")
    assert JetDataset.open(path, layout=TWO, classes=["b", "light"]).labels.tolist() == [1, 0] * 10


def test_an_integer_label_beyond_the_classes_is_refused(write, two_collections) -> None:
    two_collections["flavour"][3] = 7
    with pytest.raises(HepmlError, match=r"unknown class 7.*entry 3"):
        JetDataset.open(write(two_collections), layout=TWO)


def test_unlabelled_jets_are_dropped_where_the_layout_says_so(write, arrays) -> None:
    arrays["label_QCD"][4] = 0
    own = {
        "constituents": {n: f"part_{n}" for n in ("px", "py", "pz", "energy")},
        "labels": {"qcd": "label_QCD", "top": "label_Tbqq"},
    }
    path = write(arrays)
    with pytest.raises(HepmlError, match=r"no class: its labels sum to 0.*entry 4.*unlabelled: drop"):
        JetDataset.open(path, layout=own)
    dataset = JetDataset.open(path, layout={**own, "unlabelled": "drop"})
    assert len(dataset) == 59
    assert dataset.report.unlabelled == 1
    assert dataset.report.kept == 59


def test_classes_can_be_chosen_reordered_and_merged(write, arrays) -> None:
    path = write(arrays)
    assert JetDataset.open(path, classes=["Tbqq", "QCD"]).labels[:4].tolist() == [1, 0, 1, 0]
    alone = JetDataset.open(path, classes=["Tbqq"])
    assert len(alone) == 30
    assert alone.report.of_other_classes == 30
    merged = JetDataset.open(path, classes={"any": ["QCD", "Tbqq"]})
    assert merged.classes == ("any",)
    assert set(merged.labels.tolist()) == {0}


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_a_column_is_transformed_shifted_scaled_and_clipped(name) -> None:
    x = np.array([0.0, 0.5, 2.0, -1.0, 9.0], dtype=np.float32)
    got = Column("b", unit=2.0, transform=name, shift=0.25, scale=3.0, clip=(-2, 4))(x)
    with np.errstate(all="ignore"):
        expected = np.clip((TRANSFORMS[name](2 * x) - 0.25) * 3, -2, 4)
    assert np.allclose(got, expected)
    assert got.dtype == np.float32


def test_fill_mends_columns_that_are_nan_by_convention() -> None:
    assert Column("b", fill=-1.0)(np.array([np.nan, 2.0], dtype=np.float32)).tolist() == [-1.0, 2.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"constituants": []}, r"unknown key 'constituants'.*did you mean 'constituents'"),
        ({"constituents": {"px": "a", "py": "b"}}, "no momentum among the columns px, py"),
        (
            {"constituents": {"pt": {"branch": "a", "transfrom": "log"}}},
            r"unknown key 'transfrom'.*did you mean 'transform'",
        ),
        (
            {"constituents": {"pt": {"branch": "a", "transform": "lg"}}},
            r"unknown transform 'lg'.*did you mean 'log'",
        ),
        ({"constituents": {"pt": {"branch": "a", "constant": 1}}}, "either a branch or a constant"),
        ({"constituents": {"pt": {"branch": "a", "clip": [1]}}}, "clip takes two bounds"),
        ({"unlabelled": "ignore"}, "unlabelled is 'ignore'"),
    ],
)
def test_mistakes_in_a_layout_are_named_with_their_key(change, message) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        Layout.parse({**TWO, **change})
    assert "layout" in str(error.value)


def test_an_unknown_layout_names_the_nearest_and_the_page() -> None:
    with pytest.raises(
        LayoutError, match=r"unknown layout 'jetclas'.*did you mean 'jetclass'.*data-layouts.md"
    ):
        Layout.parse("jetclas")


def test_a_branch_that_the_layout_names_and_the_file_lacks_is_refused(write, two_collections) -> None:
    del two_collections["n_had"]
    with pytest.raises(LayoutError, match="branch 'n_had' not found"):
        read_jets(write(two_collections), TWO)


def test_only_the_jetclass_branches_are_recognised() -> None:
    assert recognise(["part_px", "part_py", "part_pz", "part_energy", "x"]) is BUILT_IN["jetclass"]
    assert recognise(["part_px", "part_py", "part_pz"]) is None
    assert recognise([]) is None


def test_every_shipped_layout_parses(repository: Path) -> None:
    found = sorted((repository / "configs" / "layouts").glob("*.yaml"))
    assert found
    for path in found:
        assert Layout.parse(str(path)).name == path.stem


def test_cms_jets_are_mapped_by_the_shipped_layout(repository: Path, shared: Path) -> None:
    """Real CMS simulation (DeepJet ntuple): all jets, all classes, candidates in units and ranges that make
    sense."""
    path = shared / "data" / "root" / "cms_deepjet_ttbar_7199jets.root"
    features = ("log_pt", "delta_r", "is_photon", "track_dxy", "track_dz", "track_vertex")
    layout = str(repository / "configs" / "layouts" / "cms_deepjet.yaml")
    dataset = JetDataset.open(path, Inputs(features=features), layout=layout, classes=["b", "c", "uds", "g"])
    assert dataset.report.classes == {"b": 2232, "c": 899, "uds": 2276, "g": 1792}
    batch = dataset.batch(slice(None))
    scale = torch.hypot(batch.jets[:, 1], batch.jets[:, 2]) / torch.from_numpy(
        np.asarray(read_jets(path, layout).jet_pt)
    )
    assert 0.8 < scale.median() < 1.2
    assert torch.isfinite(dataset.features).all()
    track = batch.select(["track_dxy"])[:, 0].abs()
    label = dataset.labels[batch.jet_of]
    central = (batch.select(["track_vertex"])[:, 0] >= 0) & (track > 0)
    assert track[central & (label == 0)].median() > 1.2 * track[central & (label == 2)].median()


@pytest.mark.parametrize("column", ["pt", "mass", "ntracks"])
def test_a_branch_that_a_further_collection_lacks_is_named(write, two_collections, column) -> None:
    vertices = {"pt": "n_pt", "delta_eta": "n_deta", "delta_phi": "n_dphi", column: "nope"}
    layout = {**TWO, "collections": {"vertices": vertices}}
    with pytest.raises(LayoutError, match="branch 'nope' not found"):
        read_jets(write(two_collections), layout)


def test_a_number_in_the_place_of_the_weight_branch_counts(write, two_collections) -> None:
    jets = read_jets(write(two_collections), {**TWO, "weight": 2})
    assert set(jets.weight.tolist()) == {2.0}
