"""Odd variants of event files that are really met: files of one list that differ, other lists under a
collection's prefix, flags that are none, units, links that say less than they should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
from event_files import nano_events, podio_events, write_tree
from toys import write_toy_jets

import hepml
from hepml.data.dataset import JetDataset
from hepml.data.inputs import Inputs
from hepml.data.reading.layouts import Layout
from hepml.errors import ConfigError, DataError, HepmlError, LayoutError

Branches = dict[str, Any]


def without_fat_jets(branches: Branches) -> Branches:
    """The same events, none of which has an AK8 jet."""
    out = {n: v[:, :0] if n.startswith("FatJet") else v for n, v in branches.items()}
    return {**out, "nFatJet": np.zeros(len(out["event"]), dtype=np.int32)}


def write(folder: Path, *files: Branches) -> list[Path]:
    return [write_tree(folder / f"{i}.root", "Events", b) for i, b in enumerate(files)]


@pytest.mark.filterwarnings("ignore:read jet collection")
@pytest.mark.parametrize("order", [1, -1])
def test_all_files_are_read_from_one_collection(tmp_path: Path, order: int) -> None:
    first, second = nano_events(), nano_events(seed=1)
    jets = hepml.read_jets(write(tmp_path, first, without_fat_jets(second))[::order])
    assert len(jets) == ak.sum(first["nFatJet"])
    assert "FatJet_pt" in jets.fields
    lacking = {n: v for n, v in second.items() if "FatJet" not in n}
    jets = hepml.read_jets(write(tmp_path, first, lacking)[::order])
    assert len(jets) == ak.sum(first["nJet"]) + ak.sum(second["nJet"])
    assert "Jet_pt" in jets.fields


@pytest.mark.filterwarnings("ignore:read jet collection")
def test_files_without_a_common_collection_are_refused(tmp_path: Path) -> None:
    one = {n: v for n, v in nano_events().items() if not n.startswith(("Jet", "nJet"))}
    other = {n: v for n, v in nano_events().items() if "FatJet" not in n}
    with pytest.raises(LayoutError, match=r"different jet collections: FatJet in .*0.root, Jet in .*1.root"):
        hepml.read_jets(write(tmp_path, one, other))


def test_pieces_take_the_arguments_of_the_whole(tmp_path: Path) -> None:
    (file,) = write(tmp_path, nano_events())
    whole = hepml.read_jets(file, jets="Jet", classes=["b", "c"])
    pieces = list(hepml.data.iterate_jets(file, jets="Jet", classes=["b", "c"], step_size=10))
    assert len(pieces) > 1
    assert ak.concatenate([p.jet_pt for p in pieces]).tolist() == whole.jet_pt.tolist()
    assert ak.concatenate([p.label for p in pieces]).tolist() == whole.label.tolist()
    assert pieces[0].attrs["classes"] == ["b", "c"]
    with pytest.warns(UserWarning, match="there are also Jet"):
        next(hepml.data.iterate_jets(file))


def test_an_event_of_two_files_is_one_event(tmp_path: Path) -> None:
    again = {n: v[10:30] for n, v in nano_events().items()}
    other = nano_events(seed=1)
    other |= {"run": other["run"] + 1}
    files = write(tmp_path, nano_events(), again, other)
    data = JetDataset.open(files, layout={"jets": "Jet"}, labels=False, jet_columns=["run", "event"])
    assert len(np.unique(data.events)) == 80  # 40 of the first and second file, 40 of the third
    first, second = data.split(0.3, seed=1)
    numbers = [
        set(zip(part.jet_columns["run"].tolist(), part.jet_columns["event"].tolist(), strict=True))
        for part in (first, second)
    ]
    assert all(numbers)
    assert not numbers[0] & numbers[1]


@pytest.mark.parametrize("number", ["event", None])
def test_events_without_a_number_are_told_by_file_and_entry(tmp_path: Path, number: str | None) -> None:
    branches = [nano_events(), nano_events(seed=1)]
    for b in branches:
        del b["event"]
        if number:
            b[number] = np.zeros(40, dtype=np.uint64)
    data = JetDataset.open(write(tmp_path, *branches), layout={"jets": "Jet"}, labels=False)
    assert len(np.unique(data.events)) == 80


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("name", ["event", "evt"])
def test_event_numbers_of_two_integer_types_stay_exact(tmp_path: Path, order: int, name: str) -> None:
    first, second = nano_events(), nano_events(seed=1)
    numbers = 2**60 + 1 + np.arange(40)
    first |= {name: numbers.astype(np.uint64)}
    second |= {name: numbers.astype(np.int64)}
    files = write(tmp_path, first, second)[::order]
    layout = {"jets": "FatJet", "event": {"number": name}}
    expected = np.concatenate(
        [np.repeat(numbers, ak.num(b["FatJet_pt"])) for b in (first, second)[::order]]
    ).tolist()
    assert hepml.read_jets(files, layout).number.tolist() == expected
    for cache in (None, tmp_path / "cache"):
        data = JetDataset.open(files, layout=layout, labels=False, jet_columns=["number"], cache=cache)
        assert data.jet_columns["number"].tolist() == expected
    second[name] = -second[name]
    first[name] = first[name] + np.uint64(2**63)
    with pytest.raises(DataError, match="where another has signed integers"):
        hepml.read_jets(write(tmp_path, first, second)[::order], layout)


def test_columns_of_event_files_are_filled_and_typed_like_any_others(tmp_path: Path) -> None:
    first, second = nano_events(), nano_events(seed=1)
    first |= {
        "PFCand_d0": first["PFCand_pt"] * 0 + 1,
        "FatJet_x": ak.values_astype(first["FatJet_pt"] * 0, "u1"),
    }
    second |= {"FatJet_x": ak.values_astype(second["FatJet_pt"] * 0 + 300, np.int32)}
    del second["genWeight"], second["FatJet_mass"]
    files, layout = write(tmp_path, first, second), {"jets": "FatJet", "weight": "genWeight"}
    many = int(ak.sum(first["nFatJet"]))
    with pytest.raises(LayoutError, match=r"some files have event weights.*1.root"):
        hepml.read_jets(files, layout)
    with pytest.raises(LayoutError, match=r"constituent column 'd0' is in some files.*1.root"):
        hepml.read_jets(files, jets="FatJet", columns=["d0"])
    jets = hepml.read_jets(files, layout, missing_columns="fill", columns=["d0"])
    assert set(jets.weight[many:].tolist()) == {1.0}
    assert ak.all(jets.constituents.d0[:many] == 10)  # cm to mm
    assert ak.all(jets.constituents.d0[many:] == 0)
    report = hepml.read_jets(files, jets="FatJet").attrs["report"]
    assert "left out: d0" in report
    assert "sum of the constituents taken: the jets' own momenta" in report
    for cache in (None, tmp_path / "cache"):
        data = JetDataset.open(
            files, layout={"jets": "FatJet"}, labels=False, jet_columns=["FatJet_x"], cache=cache
        )
        assert set(data.jet_columns["FatJet_x"].tolist()) == {0, 300}


def with_lists(branches: Branches) -> Branches:
    events = len(branches["event"])
    return {
        **branches,
        "LHEPdfWeight": ak.unflatten(np.arange(3 * events, dtype=np.float32), 3),
        "flag": ak.values_astype(branches["FatJet_pt"] * 0 + 2, np.int32),
    }


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ({"weight": {"branch": "LHEPdfWeight", "element": 1}}, "weight"),
        ({"columns": {"w": {"branch": "LHEPdfWeight", "element": 1}}}, "w"),
    ],
)
def test_one_of_a_list_an_event(tmp_path: Path, layout: Branches, name: str) -> None:
    branches = with_lists(nano_events())
    (file,) = write(tmp_path, branches)
    jets = hepml.read_jets(file, {"jets": "FatJet", **layout})
    expected = np.repeat(3 * np.arange(40) + 1, ak.num(branches["FatJet_pt"]))
    assert jets[name].tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ({"weight": "LHEPdfWeight"}, "'LHEPdfWeight' has 3 numbers for 0 jets of 'FatJet'"),
        ({"columns": {"w": "LHEPdfWeight"}}, "'LHEPdfWeight' has 3 numbers for 0 jets of 'FatJet'"),
        ({"columns": {"w": "Jet_pt"}}, "'Jet_pt' has 1 numbers for 0 jets of 'FatJet'"),
        ({"columns": {"w": "nope"}}, "branch 'nope' not found"),
        ({"columns": {"w": {"branch": "genWeight", "element": 0}}}, "one number an event"),
        ({"weight": "nope"}, "branch 'nope' not found"),
        ({"jet": {"pt": "Jet_pt"}}, "'FatJet'"),
        ({"match": {"t": {"particles": "GenPart", "dr": -1}}}, "dr is -1"),
        ({"match": {"t": {"particles": "GenPart", "inside": 0}}}, "inside is 0"),
        ({"match": {"t": {"particles": "GenPart", "select": "pdg > 1"}}}, "no column 'pdg'"),
        ({"overlap": {"collection": "GenPart", "dr": "0.4x"}}, "dr is '0.4x'"),
        ({"jets": {"collection": "FatJet", "select": 3}}, "found 3 .in layout.jets.select"),
        ({"jets": {"collection": "FatJet", "leading": True}}, "leading is True"),
    ],
)
def test_what_is_wrong_in_a_layout_is_said(tmp_path: Path, layout: Branches, words: str) -> None:
    (file,) = write(tmp_path, with_lists(nano_events()))
    with pytest.raises(HepmlError, match=words) as problem:
        hepml.read_jets(file, {"jets": "FatJet", **layout})
    assert "\n" not in str(problem.value)


def test_several_numbers_an_event_are_said(tmp_path: Path) -> None:
    (file,) = write(tmp_path, with_lists(nano_events()))
    jets = hepml.read_jets(file, {"jets": "FatJet", "event": ["LHEPdfWeight"]})
    assert "'LHEPdfWeight' has several numbers an event, of which the first is taken" in jets.attrs["report"]


def test_a_number_in_the_place_of_a_branch_counts(tmp_path: Path) -> None:
    (file,) = write(tmp_path, nano_events())
    jets = hepml.read_jets(file, {"jets": "FatJet", "jet": {"mass": 1.5}, "weight": 2})
    np.testing.assert_allclose(jets.jet_mass, 1.5)
    np.testing.assert_allclose(jets.jet_energy**2 - (jets.jet_pt * np.cosh(jets.jet_eta)) ** 2, 2.25, atol=1)
    assert set(jets.weight.tolist()) == {2.0}


def test_flags_that_are_neither_0_nor_1_are_no_label(tmp_path: Path) -> None:
    (file,) = write(tmp_path, with_lists(nano_events()))
    jets = hepml.read_jets(file, {"jets": "FatJet", "labels": {"b": "flag"}})
    assert set(jets.label.tolist()) == {-2}
    with pytest.raises(DataError, match="neither 0 nor 1"):
        JetDataset.open(file, layout={"jets": "FatJet", "labels": {"b": "flag"}})
    assert len(hepml.read_jets(file, {"jets": {"collection": "FatJet", "select": "flag"}})) == len(jets)


PHYSLITE = "data/root/atlas_physlite_100events.root"


@pytest.mark.parametrize("cut", ["pt > 50", "jet_pt > 50"])
def test_selections_are_in_gev_whatever_the_file_has(shared: Path, cut: str) -> None:
    pt = hepml.read_jets(shared / PHYSLITE, jets="AnalysisJets").jet_pt
    jets = hepml.read_jets(shared / PHYSLITE, {"jets": {"collection": "AnalysisJets", "select": cut}})
    assert 0 < len(jets) == ak.sum(pt > 50) < len(pt)


def test_objects_near_jets_are_in_gev(shared: Path) -> None:
    jets: Branches = {"jets": "AnalysisJets"}
    near = {"collection": "AnalysisElectrons", "dr": 0.4}
    beside = hepml.read_jets(shared / PHYSLITE, {**jets, "collections": {"electrons": near}})
    hard = ak.any(beside.electrons.pt > 30, axis=1)
    assert 0 < ak.sum(hard) < ak.sum(ak.num(beside.electrons) > 0)
    assert ak.max(beside.electrons.pt) < 1000
    left = hepml.read_jets(shared / PHYSLITE, {**jets, "overlap": {**near, "select": "pt > 30"}})
    assert len(left) == len(beside) - ak.sum(hard)
    rule = {"particles": "AnalysisElectrons", "dr": 0.4, "select": "pt > 30"}
    matched = hepml.read_jets(shared / PHYSLITE, {**jets, "match": {"e": rule}})
    assert (matched.label == 0).tolist() == hard.tolist()


def test_impact_parameters_of_named_collections_are_in_mm(tmp_path: Path) -> None:
    branches = nano_events()
    branches |= {n.replace("GenPart", "LostTrack"): v for n, v in branches.items() if n.startswith("GenPart")}
    branches["LostTrack_dz"] = branches["LostTrack_pt"] * 0 + 0.5  # cm
    (file,) = write(tmp_path, branches)
    layout = {"jets": "Jet", "collections": {"lost": {"collection": "LostTrack", "dr": 3.0}}}
    dz = ak.flatten(hepml.read_jets(file, layout).lost.dz)
    assert len(dz)
    assert set(dz.tolist()) == {5.0}


@pytest.mark.parametrize("name", ["pt", "eta", "mass", "energy"])
def test_the_momentum_is_at_hand_in_any_form(tmp_path: Path, name: str) -> None:
    branches, _ = podio_events()
    file = write_tree(tmp_path / "fcc.root", "events", branches)
    values = hepml.read_jets(file)[f"jet_{name}"]
    middle = float(np.median(values))
    jets = hepml.read_jets(file, {"jets": {"collection": "Jet", "select": f"{name} > {middle}"}})
    assert len(jets) == ak.sum(values > middle)
    rule = {"particles": "Jet", "dr": 0.01, "select": f"{name} > {middle}"}
    matched = hepml.read_jets(file, {"jets": "Jet", "match": {"hard": rule}})
    assert (matched.label == 0).tolist() == (values > middle).tolist()


def test_ids_of_several_collections_are_not_guessed(tmp_path: Path) -> None:
    branches, _ = podio_events()
    jets = hepml.read_jets(write_tree(tmp_path / "one.root", "events", branches))
    assert "no table of collection ids: links of 'Jet' are taken to lead" in jets.attrs["report"]
    ids = ak.to_numpy(ak.flatten(branches["_Jet_particles.collectionID"])).copy()
    ids[::2] = 9
    counts = ak.num(branches["_Jet_particles.collectionID"])
    branches["_Jet_particles.collectionID"] = ak.unflatten(ids, counts)
    with pytest.raises(LayoutError, match=r"76 to 'collection id 7', 76 to 'collection id 9'"):
        hepml.read_jets(write_tree(tmp_path / "two.root", "events", branches))


def test_ranges_that_end_before_they_begin_are_refused(tmp_path: Path) -> None:
    branches, _ = podio_events()
    begin = ak.to_numpy(ak.flatten(branches["Jet.particles_begin"]))
    end = ak.to_numpy(ak.flatten(branches["Jet.particles_end"])).copy()
    k = int(np.argmax(begin > 0))
    end[k] = begin[k] - 1
    branches["Jet.particles_end"] = ak.unflatten(end, ak.num(branches["Jet.particles_end"]))
    with pytest.raises(HepmlError, match=rf"row {begin[k]} to {end[k]} of a relation.*entry"):
        hepml.read_jets(write_tree(tmp_path / "fcc.root", "events", branches))


def test_an_empty_header_is_no_event_number_and_no_weight(tmp_path: Path) -> None:
    branches, _ = podio_events()
    counts = np.ones(30, dtype=int)
    counts[4] = 0
    for name, values in (("eventNumber", np.arange(1, 30)), ("weight", np.ones(29))):
        branches[f"EventHeader.{name}"] = ak.unflatten(values, counts)
    jets = hepml.read_jets(write_tree(tmp_path / "fcc.root", "events", branches))
    at = np.repeat(np.arange(30), ak.num(branches["Jet.energy"]))
    assert 4 in at
    assert np.isnan(ak.to_numpy(jets.genWeight)).tolist() == (at == 4).tolist()
    assert "'EventHeader.weight' is empty in some events" in jets.attrs["report"]


@pytest.fixture
def nested() -> Branches:
    """Jets with lists of lists, and the number of each event."""
    rng = np.random.default_rng(0)
    jets = rng.integers(1, 4, 20)
    parts = rng.integers(1, 6, jets.sum())

    def of_jets(low: float, high: float) -> ak.Array:
        return ak.unflatten(rng.uniform(low, high, jets.sum()).astype(np.float32), jets)

    def of_parts(low: float, high: float) -> ak.Array:
        inner = ak.unflatten(rng.uniform(low, high, parts.sum()).astype(np.float32), parts)
        return ak.unflatten(inner, jets)

    ranges = {"pt": (1, 10), "eta": (-2, 2), "phi": (-3, 3), "mass": (0, 0.1)}
    return {
        **{f"jet_{n}": of_jets(*r) for n, r in ranges.items()},
        **{f"jet_part_{n}": of_parts(*r) for n, r in ranges.items()},
        "run": np.full(20, 5, dtype=np.int32),
        "event": np.arange(20, dtype=np.int64) + 2**60,
    }


def test_nested_lists_carry_their_event(tmp_path: Path, nested: Branches) -> None:
    jets = hepml.read_jets(write_tree(tmp_path / "n.root", "t", nested, ntuple=True))
    assert jets.event.tolist() == np.repeat(nested["event"], ak.num(nested["jet_pt"])).tolist()
    assert set(jets.run.tolist()) == {5}


def test_nested_lists_that_differ_in_length_are_refused(tmp_path: Path, nested: Branches) -> None:
    counts = ak.num(nested["jet_part_eta"], axis=2)
    flat = ak.to_numpy(ak.flatten(counts)).copy()
    flat[:2] += [1, -1]  # as many in all, but not in each jet
    content = ak.flatten(nested["jet_part_eta"], axis=None)
    nested["jet_part_eta"] = ak.unflatten(ak.unflatten(content, flat), ak.num(counts))
    with pytest.raises(
        DataError, match=r"'jet_part_pt' and 'jet_part_eta' have \d and \d numbers in one jet"
    ):
        hepml.read_jets(write_tree(tmp_path / "n.root", "t", nested, ntuple=True))


def test_other_lists_under_the_jets_prefix_are_left_out_and_named(tmp_path: Path, nested: Branches) -> None:
    nested["jet_sv_pt"] = ak.unflatten(np.ones(60, dtype=np.float32), np.full(20, 3))
    jets = hepml.read_jets(write_tree(tmp_path / "n.root", "t", nested, ntuple=True))
    assert "jet_sv_pt" not in jets.fields
    assert "left out: jet_sv_pt (not one number a jet of 'jet')" in jets.attrs["report"]


def test_a_mass_that_no_column_says_cannot_be_selected(tmp_path: Path, nested: Branches) -> None:
    del nested["jet_mass"]
    file = write_tree(tmp_path / "n.root", "t", nested, ntuple=True)
    for name in ("jet_mass", "mass", "energy"):
        with pytest.raises(LayoutError, match=f"branch '{name}' not found"):
            hepml.read_jets(file, {"jets": {"collection": "jet", "select": f"{name} > 1"}})


def test_a_training_reads_all_its_files_from_one_collection(tmp_path: Path) -> None:
    from hepml.training.data_config import DataConfig
    from hepml.training.jets import open_jets

    train, val = write(tmp_path, nano_events(), without_fat_jets(nano_events(seed=1)))
    settings = DataConfig(train=str(train), val=str(train), test=str(val), layout="nanoaod")
    with pytest.raises(DataError, match="no jets left"):
        open_jets(settings, Inputs(features=("log_pt",)))
    settings = DataConfig(train=str(train), val=str(train), layout="nanoaod")
    assert open_jets(settings, Inputs(features=("log_pt",))).collection == "FatJet"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"jets": ["FatJet"]}, "found list .*layout.jets"),
        ({"jets": {"collection": 3}}, "found 3 .*layout.jets.collection"),
        ({"jets": "Jet", "columns": ["w"]}, "found list .*layout.columns"),
        ({"jets": "Jet", "jet": ["w"]}, "found list .*layout.jet"),
        ({"jets": "Jet", "tree": 3}, "found 3 .*layout.tree"),
        ({"jets": "Jet", "collections": {"sv": {"collection": "SV", "dr": 0}}}, "dr is 0"),
        *(
            ({"constituents": {"px": "x", "py": "y", "pz": "z"}, key: value}, rf"found .*layout.{key}\b")
            for key, value in {
                "labels": ["isB"],
                "label": 3,
                "tree": 3,
                "jet": ["x"],
                "columns": "w",
                "collections": ["x"],
                "define": ["x"],
                "selection": 3,
                "reweight": "x",
            }.items()
        ),
        ({"constituents": {"px": "x", "py": "y", "pz": "z"}, "features": 3}, "a list of names"),
    ],
)
def test_a_layout_that_is_wrong_in_itself_is_refused_before_any_file(wrong: Branches, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as problem:
        Layout.parse(wrong)
    assert "\n" not in str(problem.value)


def test_one_feature_is_one_name() -> None:
    layout = Layout.parse({"constituents": {"px": "x", "py": "y", "pz": "z"}, "features": "log_pt"})
    assert layout.features == ("log_pt",)


def test_a_collection_asked_of_a_file_of_one_jet_an_entry_is_answered_with_its_layout(tmp_path: Path) -> None:
    file = write_toy_jets(tmp_path / "jets.root", 10)
    with pytest.raises(LayoutError, match=r"'FatJet' not found.*--layout NAME"):
        hepml.read_jets(file, jets="FatJet")
    assert len(hepml.read_jets(file, layout="jetclass")) == 10
