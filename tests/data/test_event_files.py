"""Event files: many jets an entry, constituents through the five kinds of link."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
from event_files import nano_events, podio_events, write_tree

import hepml
from hepml.data.reading.inspection import inspect
from hepml.errors import HepmlError, LayoutError


def sum_ratio(jets: ak.Array, to: str) -> np.ndarray:
    """pT of the summed constituents over that of the jet, for jets that have any."""
    c = jets.constituents
    pt = np.hypot(ak.sum(c.px, axis=1), ak.sum(c.py, axis=1))
    has = ak.num(c.px) > 0
    return ak.to_numpy(pt[has] / jets[to][has])


@cache
def inspected(file: Path) -> dict[str, object]:
    return inspect(file).as_dict()


def collection(file: Path, name: str) -> dict[str, object]:
    return next(c for c in inspected(file)["collections"] if c["name"] == name)


@pytest.fixture
def nano(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "nano.root", "Events", nano_events())


def test_pfnano_constituents_sum_to_the_raw_pt(shared: Path) -> None:
    file = shared / "data/root/cms_pfnano_10events.root"
    jets = hepml.read_jets(file, jets="FatJet")
    assert len(jets) == 24
    assert np.median(sum_ratio(jets, "jet_raw_pt")) == pytest.approx(1.002, abs=5e-4)
    assert np.median(sum_ratio(jets, "jet_pt")) == pytest.approx(0.93, abs=5e-3)
    assert np.median(sum_ratio(hepml.read_jets(file, jets="Jet"), "jet_raw_pt")) == pytest.approx(1, abs=2e-3)


def test_pfnano_counts_constituents_as_the_file_does(shared: Path) -> None:
    file = shared / "data/root/cms_pfnano_10events.root"
    own = uproot.open(file)["Events/Jet_nConstituents"].array()
    jets = hepml.read_jets(file, jets="Jet")
    has = ak.num(jets.constituents.px) > 0
    assert ak.all(ak.num(jets.constituents.px)[has] == ak.flatten(own)[has])


def test_pfnano_as_ntuple_gives_the_same_jets(shared: Path, tmp_path: Path) -> None:
    file = shared / "data/root/cms_pfnano_10events.root"
    tree = uproot.open(file)["Events"]
    names = [
        b.name
        for b in tree.branches
        if b.name.startswith(("FatJet_", "FatJetPFCands_", "PFCands_", "nFatJet", "nPFCands"))
        or b.name in ("run", "event", "luminosityBlock", "genWeight")
    ]
    write_tree(tmp_path / "n.root", "Events", {n: tree[n].array() for n in names}, ntuple=True)
    old, new = (hepml.read_jets(f, jets="FatJet") for f in (file, tmp_path / "n.root"))
    assert ak.all(old.constituents.px == new.constituents.px)
    assert ak.all(old.event == new.event)
    assert inspect(tmp_path / "n.root").layout == "pfnano"


def test_delphes_references_are_matched_by_event_and_id(shared: Path) -> None:
    file = shared / "data/root/delphes_25events.root"
    jets = hepml.read_jets(file, jets="Jet")
    assert (len(jets), int(ak.sum(ak.num(jets.constituents.px)))) == (106, 1877)
    np.testing.assert_allclose(sum_ratio(jets, "jet_pt"), 1, rtol=2e-4)
    found = collection(file, "Jet")
    assert (found["jets"], found["constituents"], found["lost_links"]) == (106, 1877, 0)
    assert found["candidates"] == ["EFlowTrack", "EFlowPhoton", "EFlowNeutralHadron"]


def test_physlite_counts_null_links_and_reads_mev(shared: Path) -> None:
    file = shared / "data/root/atlas_physlite_100events.root"
    found = collection(file, "AnalysisJets")
    assert found["constituents"] + found["null_links"] == 7793
    assert found["null_links"] == found["lost_links"] == 6667
    jets = hepml.read_jets(file, jets="AnalysisJets")
    tree = uproot.open(file)["CollectionTree"]
    np.testing.assert_allclose(
        jets.jet_pt, ak.flatten(tree["AnalysisJetsAuxDyn.pt"].array()) / 1000, rtol=1e-6
    )
    assert "6,667 of 7,793 links" in jets.attrs["report"]
    assert inspected(file)["units"] == "MeV"


def test_links_into_a_collection_that_is_not_kept_are_refused_by_name(shared: Path) -> None:
    file = shared / "data/root/atlas_physlite_100events.root"
    with pytest.raises(LayoutError, match=r"1,618 of 1,618 links of 'AnalysisLargeRJets'.*'UFOCSSK'"):
        hepml.read_jets(file, jets="AnalysisLargeRJets")
    assert collection(file, "AnalysisLargeRJets")["lost_links"] == 1618


@pytest.mark.parametrize("ntuple", [False, True])
@pytest.mark.parametrize("index", [np.uint8, np.int16, np.int32, np.int64])
def test_nanoaod_tables_of_any_index_type(tmp_path: Path, ntuple: bool, index: type) -> None:
    branches = nano_events(index=np.int16)
    if index == np.uint8:  # has no -1: those rows are left out
        branches = without_null_rows(branches)
    branches |= {n: ak.values_astype(v, index) for n, v in branches.items() if n.endswith("Idx")}
    file = write_tree(tmp_path / "nano.root", "Events", branches, ntuple)
    for name in ("FatJet", "Jet"):
        jets = hepml.read_jets(file, jets=name)
        assert len(jets) == ak.sum(ak.num(branches[f"{name}_pt"]))
        np.testing.assert_allclose(sum_ratio(jets, "jet_pt"), 1, rtol=1e-4)
        found = collection(file, name)
        assert found["constituents"] == ak.sum(ak.num(jets.constituents.px))
        assert found["unkept_links"] == 0


def without_null_rows(branches: dict[str, ak.Array]) -> dict[str, ak.Array]:
    out = dict(branches)
    for name in ("FatJet", "Jet"):
        there = branches[f"{name}PFCand_jetIdx"] >= 0
        out |= {n: branches[n][there] for n in (f"{name}PFCand_jetIdx", f"{name}PFCand_pfCandIdx")}
    return out


def test_candidates_without_a_mass_are_massless(tmp_path: Path) -> None:
    file = write_tree(tmp_path / "nano.root", "Events", nano_events(mass=False))
    jets = hepml.read_jets(file, jets="FatJet")
    p = ak.flatten(jets.constituents)
    np.testing.assert_allclose(p.energy**2, p.px**2 + p.py**2 + p.pz**2, rtol=1e-4)


def test_the_widest_collection_is_taken_and_the_others_said(nano: Path) -> None:
    with pytest.warns(UserWarning, match="read jet collection 'FatJet'.*also Jet"):
        jets = hepml.read_jets(nano)
    assert "further collections with links: Jet" in jets.attrs["report"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ak.all(hepml.read_jets(nano, jets="FatJet").jet_pt == jets.jet_pt)


def test_an_unknown_collection_names_the_nearest(nano: Path) -> None:
    with pytest.raises(LayoutError, match="did you mean 'FatJet'"):
        hepml.read_jets(nano, jets="Fatjet")


def test_a_collection_without_links_is_refused(tmp_path: Path) -> None:
    branches = {n: v for n, v in nano_events().items() if "PFCand" not in n}
    file = write_tree(tmp_path / "nano.root", "Events", branches)
    for jets in ("FatJet", None):
        with pytest.raises(LayoutError, match=r"no link to constituents|no jet collection with constituents"):
            hepml.read_jets(file, jets=jets)
    assert [c["constituents"] for c in inspect(file).as_dict()["collections"]] == [0, 0]


@pytest.mark.parametrize(("index", "kept"), [("pfCandIdx", "PFCand"), ("pFCandsIdx", "PFCands")])
def test_candidates_that_the_file_does_not_keep_are_called_by_name(tmp_path, index, kept) -> None:
    kept_out = {n: v for n, v in nano_events().items() if not n.startswith("PFCand_")}
    branches = {n.replace("pfCandIdx", index): v for n, v in kept_out.items()}
    with pytest.raises(HepmlError, match=rf"does not keep \(\d+ to '{kept}'\)"):
        hepml.read_jets(write_tree(tmp_path / "nano.root", "Events", branches), jets="FatJet")


def test_indices_beyond_the_candidates_are_refused(tmp_path: Path) -> None:
    branches = nano_events()
    branches["FatJetPFCand_pfCandIdx"] = branches["FatJetPFCand_pfCandIdx"] + 50
    file = write_tree(tmp_path / "nano.root", "Events", branches)
    with pytest.raises(LayoutError, match="links of 'FatJet' lead to constituents"):
        hepml.read_jets(file, jets="FatJet")
    assert collection(file, "FatJet")["lost_links"] > 0


def test_every_jet_carries_its_event(nano: Path) -> None:
    branches = nano_events()
    jets = hepml.read_jets(nano, jets="FatJet")
    event = np.repeat(branches["event"], ak.num(branches["FatJet_pt"]))
    assert jets.event.tolist() == event.tolist()
    place = ak.flatten(ak.local_index(branches["FatJet_pt"]))
    assert jets.jet_index.tolist() == place.tolist()
    assert {"run", "luminosityBlock", "genWeight"} <= set(jets.fields)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("ntuple", [False, True])
def test_edm4hep_object_ids_in_old_and_new_names(tmp_path: Path, old: bool, ntuple: bool) -> None:
    branches, counts = podio_events(old=old)
    if ntuple:
        branches = records(branches)
    file = write_tree(tmp_path / "fcc.root", "events", branches, ntuple)
    jets = hepml.read_jets(file)
    assert ak.num(jets.constituents.px).tolist() == counts.tolist()
    np.testing.assert_allclose(ak.sum(jets.constituents.energy, axis=1), jets.jet_energy, rtol=1e-4)
    shown = inspect(file)
    assert shown.layout == "edm4hep"
    assert "ReconstructedParticles.momentum.x" in shown.trees["events"].branches


def records(branches: dict[str, ak.Array]) -> dict[str, ak.Array]:
    """Columns `A.b` as records `A` with a field `b`, as podio writes them in an RNTuple."""
    out: dict[str, dict[str, ak.Array]] = {}
    for name, values in branches.items():
        head, _, rest = name.partition(".")
        out.setdefault(head, {})[rest] = values
    made = {}
    for head, columns in out.items():
        momentum = {n[-1]: columns.pop(n) for n in list(columns) if n.startswith("momentum.")}
        if momentum:
            columns["momentum"] = ak.zip(momentum)
        made[head] = ak.zip(columns, depth_limit=2)
    return made


def test_a_layout_spelt_out_reads_as_the_recognised_one(nano: Path) -> None:
    layout = {
        "tree": "Events",
        "jets": {"collection": "FatJet", "select": "pt > 60"},
        "constituents": {
            "collection": "PFCand",
            "link": {"table": "FatJetPFCand", "jet": "jetIdx", "index": "pfCandIdx"},
        },
        "event": ["run", "luminosityBlock", "event", "genWeight"],
        "labels": {"b": "hadronFlavour == 5", "other": "hadronFlavour != 5"},
    }
    jets, whole = hepml.read_jets(nano, layout), hepml.read_jets(nano, jets="FatJet")
    kept = whole[whole.FatJet_pt > 60]
    assert 0 < len(jets) < len(whole)
    assert ak.all(jets.constituents.px == kept.constituents.px)
    assert jets.attrs["classes"] == ["b", "other"]
    assert (jets.label == (kept.FatJet_hadronFlavour != 5)).tolist() == [True] * len(jets)


def test_truth_matches_label_jets_near_particles(nano: Path) -> None:
    branches = nano_events()
    match = {"top": {"particles": "GenPart", "select": "abs(pdgId) == 6", "dr": 0.8}}
    layout = {"jets": "FatJet", "match": match, "unlabelled": "drop"}
    jets = hepml.read_jets(nano, layout)
    expected = []
    for e in range(len(branches["event"])):
        for j in range(len(branches["FatJet_pt"][e])):
            near = 0
            for p in range(len(branches["GenPart_pt"][e])):
                if abs(branches["GenPart_pdgId"][e][p]) != 6:
                    continue
                dphi = branches["FatJet_phi"][e][j] - branches["GenPart_phi"][e][p]
                dphi = (dphi + np.pi) % (2 * np.pi) - np.pi
                near += np.hypot(branches["FatJet_eta"][e][j] - branches["GenPart_eta"][e][p], dphi) < 0.8
            expected.append(0 if near else -1)
    assert jets.label.tolist() == expected
    assert 0 in expected


def test_leading_jets_of_an_event(nano: Path) -> None:
    jets = hepml.read_jets(nano, {"jets": {"collection": "Jet", "leading": 1}})
    branches = nano_events()
    assert len(jets) == len(branches["event"])
    np.testing.assert_allclose(jets.jet_pt, ak.max(branches["Jet_pt"], axis=1))


def test_overlapping_jets_are_left_out_and_counted(nano: Path) -> None:
    layout = {"jets": "FatJet", "overlap": {"collection": "GenPart", "dr": 1.5, "select": "pt > 200"}}
    jets = hepml.read_jets(nano, layout)
    assert len(jets) < len(hepml.read_jets(nano, jets="FatJet"))
    assert "jets removed for overlap" in jets.attrs["report"]


@pytest.mark.parametrize(
    "layout",
    [
        {"jets": {"collection": "FatJet", "slect": "pt > 1"}},
        {"jets": "FatJet", "constituents": {"collection": "PFCand", "link": {"tabel": "x"}}},
        {"jets": "FatJet", "match": {"top": {"dr": 0.8}}},
        {"jets": "FatJet", "constituents": {"collection": "Nothing", "link": {"table": "FatJetPFCand"}}},
        {"jets": {"collection": "FatJet", "select": "nothing > 1"}},
        {"layout": "nanoad", "jets": "FatJet"},
    ],
)
def test_a_wrong_layout_is_one_line(nano: Path, layout: dict[str, object]) -> None:
    with pytest.raises(HepmlError) as problem:
        hepml.read_jets(nano, layout)
    assert "\n" not in str(problem.value)


def test_jets_of_a_file_with_one_jet_an_entry_have_no_collection(toy_files: dict[str, Path]) -> None:
    with pytest.raises(HepmlError):
        hepml.read_jets(toy_files["train"], jets="FatJet")
