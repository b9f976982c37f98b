"""Jets whose constituents lie in two collections at once: PHYSLITE's element links, EDM4hep's object ids with
podio's tables of collections as each version writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from event_files import podio_events

import hepml
from hepml.data.dataset import JetDataset
from hepml.data.formats import events
from hepml.data.inputs import Inputs
from hepml.data.layouts.physlite import CLASS_IDS, store_key
from hepml.data.reading.inspection import inspect
from hepml.errors import DataError, LayoutError

Branches = dict[str, Any]
TRACKS, FLOWS, JETS = "InDetTrackParticles", "GlobalNeutralParticleFlowObjects", "AnalysisJets"
KEYS = np.array(
    [
        store_key(TRACKS, CLASS_IDS["TrackParticleContainer"]),
        store_key(FLOWS, CLASS_IDS["FlowElementContainer"]),
    ]
)
EVENTS = 30


def physlite(ordered: bool = False) -> tuple[Branches, np.ndarray, np.ndarray]:
    """Branches of jets built of tracks and of neutral flow elements, with constituents and pT of each jet.

    Args:
        ordered: whether the first half of the events have flow elements alone, the second tracks alone.
    """
    rng = np.random.default_rng(0)
    out: Branches = {}
    at, momenta = [], []
    for name in (TRACKS, FLOWS):
        counts = rng.integers(8, 12, EVENTS)
        n = counts.sum()
        pt, eta, phi = rng.uniform(1, 20, n), rng.uniform(-2, 2, n), rng.uniform(-3, 3, n)
        theta, sign = 2 * np.arctan(np.exp(-eta)), rng.choice([-1, 1], n)
        columns = {"pt": pt * 1000, "eta": eta, "phi": phi, "m": 0 * pt}
        if name == TRACKS:
            columns = {
                "theta": theta,
                "phi": phi,
                "qOverP": sign / (1000 * pt * np.cosh(eta)),
                "d0": 1 + 0 * pt,
            }
        out |= {f"{name}AuxDyn:{k}": ak.unflatten(v.astype(np.float32), counts) for k, v in columns.items()}
        at.append(np.concatenate([[0], np.cumsum(counts)]))
        momenta.append(pt * np.exp(1j * phi))
    jets = rng.integers(1, 4, EVENTS)
    links = rng.integers(2, 8, jets.sum())
    event = np.repeat(np.repeat(np.arange(EVENTS), jets), links)
    kind = (event >= EVENTS // 2).astype(int) ^ 1 if ordered else rng.integers(0, 2, len(event))
    null = rng.random(len(event)) < (0 if ordered else 0.1)
    index = rng.integers(0, 8, len(event))
    each = np.where(kind == 0, momenta[0][at[0][event] + index], momenta[1][at[1][event] + index]) * ~null
    starts = np.concatenate([[0], np.cumsum(links)[:-1]])
    sums = np.add.reduceat(each, starts)
    for k, v in {"pt": np.abs(sums) * 1000, "eta": 0 * jets.sum(), "phi": np.angle(sums)}.items():
        out[f"{JETS}AuxDyn:{k}"] = ak.unflatten(np.broadcast_to(v, sums.shape).astype(np.float32), jets)
    parts = {"m_persKey": np.where(null, 0, KEYS[kind]), "m_persIndex": np.where(null, 2**32 - 1, index)}
    nested = {n: ak.unflatten(ak.unflatten(v.astype(np.uint32), links), jets) for n, v in parts.items()}
    out[f"{JETS}AuxDyn:constituentLinks"] = ak.zip(nested, depth_limit=3)
    return out, np.add.reduceat((~null).astype(int), starts), np.abs(sums)


def write(path: Path, branches: Branches, name: str = "CollectionTree", **more: Branches) -> Path:
    with uproot.recreate(path) as file:
        for tree, held in {name: branches, **more}.items():
            file.mkrntuple(tree, held)
    return path


def test_links_into_two_containers_are_followed_into_both(tmp_path: Path) -> None:
    branches, counts, pt = physlite()
    jets = hepml.read_jets(write(tmp_path / "a.root", branches))
    p = jets.constituents
    assert ak.num(p.px).tolist() == counts.tolist()
    np.testing.assert_allclose(np.hypot(ak.sum(p.px, axis=1), ak.sum(p.py, axis=1)), pt, rtol=1e-4, atol=1e-4)
    charged = p.is_charged_hadron == 1
    assert 0 < ak.sum(charged) < ak.sum(ak.num(p.px))
    assert set(ak.flatten(p.d0[charged]).tolist()) == {1.0}
    assert set(ak.flatten(p.d0[~charged]).tolist()) == {0.0}
    assert "links of 'AnalysisJets' are null" in jets.attrs["report"]


def test_one_of_two_containers_that_is_not_kept_is_named(tmp_path: Path) -> None:
    branches, counts, _ = physlite()
    file = write(tmp_path / "a.root", {n: b for n, b in branches.items() if FLOWS not in n})
    with pytest.raises(
        LayoutError, match=rf"\d+ of \d+ links .*does not keep \(\d+ to '{FLOWS}'\)"
    ) as problem:
        hepml.read_jets(file)
    assert "\n" not in str(problem.value)
    (found,) = inspect(file).as_dict()["collections"]
    assert found["constituents"] + found["unkept_links"] == counts.sum()
    assert found["candidates"] == [TRACKS]


@pytest.mark.parametrize("link", [None, {"element": "constituentLinks"}, {"element": "GhostParts"}])
def test_a_layout_that_names_one_of_two_kept_containers_is_answered(tmp_path: Path, link: Any) -> None:
    branches, _, _ = physlite()
    if link and link["element"] == "GhostParts":  # the only branch of links is another than the usual ones
        branches[f"{JETS}AuxDyn:GhostParts"] = branches.pop(f"{JETS}AuxDyn:constituentLinks")
    layout = {"jets": JETS, "constituents": {"collection": TRACKS, **({"link": link} if link else {})}}
    with pytest.raises(LayoutError, match=rf"outside '{TRACKS}' \(\d+ to '{FLOWS}'\).*or none: then all"):
        hepml.read_jets(write(tmp_path / "a.root", branches), layout)


def test_a_number_beyond_the_end_of_its_container_is_said(tmp_path: Path) -> None:
    branches, _, _ = physlite()
    links = branches[f"{JETS}AuxDyn:constituentLinks"]
    index = ak.where(links.m_persIndex == 3, 500, links.m_persIndex)
    branches[f"{JETS}AuxDyn:constituentLinks"] = ak.zip(
        {"m_persKey": links.m_persKey, "m_persIndex": ak.values_astype(index, np.uint32)}, depth_limit=3
    )
    with pytest.raises(LayoutError, match=rf"lead to no constituent \(.*beyond the end of {TRACKS}.*damaged"):
        hepml.read_jets(write(tmp_path / "a.root", branches))


@pytest.mark.parametrize("columns", [None, ["d0"]])
def test_columns_do_not_depend_on_where_the_first_links_lead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: list[str] | None
) -> None:
    branches, counts, _ = physlite(ordered=True)
    file = write(tmp_path / "a.root", branches)
    whole = hepml.read_jets(file, columns=columns)
    pieces = list(hepml.data.iterate_jets(file, step_size=5, columns=columns))
    assert {tuple(p.constituents.fields) for p in pieces} == {tuple(whole.constituents.fields)}
    monkeypatch.setattr(events, "STEP", 5)
    jets = hepml.read_jets(file, columns=columns)
    assert jets.constituents.d0.tolist() == whole.constituents.d0.tolist()
    assert ak.num(jets.constituents.d0).tolist() == counts.tolist()
    inputs = Inputs(features=("d0",))
    data = JetDataset.open(file, layout={"jets": JETS}, labels=False, inputs=inputs)
    assert len(data) == len(whole)


def test_generator_particles_in_the_file_give_reconstructed_jets_no_columns(tmp_path: Path) -> None:
    branches, _, _ = physlite()
    branches |= {
        n.replace(FLOWS, "TruthParticles"): v for n, v in branches.items() if n.startswith(f"{FLOWS}AuxDyn")
    }
    branches["TruthParticlesAuxDyn:pdgId"] = branches["TruthParticlesAuxDyn:pt"] * 0 + 22
    file = write(tmp_path / "a.root", branches)
    assert "is_photon" not in hepml.read_jets(file).constituents.fields
    with pytest.raises(LayoutError, match="is_photon"):
        hepml.read_jets(file, columns=["is_photon"])


NAMES = ("Jet", "ReconstructedParticles", "Clusters", "LostPFOs")
HASHES = np.array([3, 3_000_000_007, 2**31 + 5, 4_000_000_000], dtype=np.uint32)


def podio(second: str | None = None, ids: np.ndarray = HASHES) -> Branches:
    """EDM4hep branches whose object ids are those of `NAMES`; every second link leads into `second`."""
    out, _ = podio_events()
    counts = ak.num(out["_Jet_particles.index"])
    each = np.full(counts.to_numpy().sum(), ids[1])
    if second is not None:
        each[::2] = ids[NAMES.index(second)]
    out["_Jet_particles.collectionID"] = ak.unflatten(each, counts)
    out |= {
        n.replace("ReconstructedParticles", "Clusters"): v for n, v in out.items() if n.startswith("Reco")
    }
    del out["Clusters.charge"]
    groups: dict[str, Branches] = {}
    for name, values in out.items():
        groups.setdefault(name.split(".", 1)[0], {})[name.split(".", 1)[1]] = values
    for name, held in groups.items():
        axes = {k: held.pop(f"momentum.{k}") for k in "xyz" if f"momentum.{k}" in held}
        groups[name] = held | ({"momentum": ak.zip(axes)} if axes else {})
    return {name: ak.zip(held) for name, held in groups.items()}


def table(version: str, ids: np.ndarray = HASHES, names: tuple[str, ...] = NAMES) -> dict[str, Branches]:
    """podio's table of collections as each version writes it."""
    numbers, words = ak.Array([ids.tolist()]), ak.Array([list(names)])
    numbers = ak.values_astype(numbers, ids.dtype)
    if version == "1.3":
        return {
            "podio_metadata": {
                "events___CollectionTypeInfo": ak.zip({"collectionID": numbers, "name": words})
            }
        }
    if version == "rntuple":
        return {"podio_metadata": {"events___idTable": numbers, "events_collectionNames": words}}
    held = ak.zip({"m_collectionIDs": numbers, "m_names": words}, depth_limit=1)
    if version == "idTable":
        return {"podio_metadata": {"events___idTable": held}}
    return {"metadata": {"CollectionIDs": held}}


VERSIONS = ("1.3", "rntuple", "idTable", "0.15")


@pytest.mark.parametrize("kind", [np.uint32, np.int32])
@pytest.mark.parametrize("version", VERSIONS)
def test_collections_are_told_by_the_table_of_any_version(tmp_path: Path, version: str, kind: type) -> None:
    file = write(tmp_path / "a.root", podio("Clusters"), "events", **table(version, HASHES.astype(kind)))
    jets = hepml.read_jets(file)
    assert "no table of collection ids" not in jets.attrs["report"]
    (found,) = inspect(file).as_dict()["collections"]
    assert found["candidates"] == ["ReconstructedParticles", "Clusters"]
    charge = ak.to_numpy(ak.flatten(jets.constituents.charge))
    assert charge.tolist() == (np.arange(len(charge)) % 2).tolist()  # clusters have none


@pytest.mark.parametrize("version", VERSIONS)
def test_a_collection_of_the_table_that_is_not_kept_is_named(tmp_path: Path, version: str) -> None:
    file = write(tmp_path / "a.root", podio("LostPFOs"), "events", **table(version))
    with pytest.raises(LayoutError, match=r"does not keep \(\d+ to 'LostPFOs'\)"):
        hepml.read_jets(file)


def test_an_id_that_the_table_lacks_is_not_guessed(tmp_path: Path) -> None:
    held = table("1.3", HASHES[:1], NAMES[:1])
    with pytest.raises(LayoutError, match=rf"\(\d+ to 'collection id {HASHES[1]}'\)"):
        hepml.read_jets(write(tmp_path / "a.root", podio(), "events", **held))


@pytest.mark.parametrize(
    ("ids", "names", "words"),
    [
        (HASHES[:3], NAMES, "3 collection ids and 4 names"),
        (HASHES[[0, 1, 1, 3]], NAMES, "of 'ReconstructedParticles' and of 'Clusters'"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(
    tmp_path: Path, ids: np.ndarray, names: tuple[str, ...], words: str
) -> None:
    held = table("rntuple", ids, names)
    with pytest.raises(DataError, match=words):
        hepml.read_jets(write(tmp_path / "a.root", podio(), "events", **held))


def test_a_further_collection_hangs_on_object_ids(tmp_path: Path) -> None:
    file = write(tmp_path / "a.root", podio(), "events", **table("1.3"))
    link = {"object": "_Jet_particles", "begin": "Jet.particles_begin", "end": "Jet.particles_end"}
    jets = hepml.read_jets(
        file,
        {"jets": "Jet", "collections": {"again": {"collection": "ReconstructedParticles", "link": link}}},
    )
    assert jets.again.px.tolist() == jets.constituents.px.tolist()
    with pytest.raises(LayoutError, match="outside 'Clusters'"):
        hepml.read_jets(file, {"jets": "Jet", "collections": {"c": {"collection": "Clusters", "link": link}}})
