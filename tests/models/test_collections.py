"""Further collections of a jet (secondary vertices) as inputs of their own: packed beside the constituents,
read from flat and from event files, and taken by ParticleNet, ParT, PFN and the transformer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch
import uproot
from small_taggers import SMALL
from toys import toy_arrays

import hepml
from hepml.data.dataset import JetDataset
from hepml.data.inputs import Inputs
from hepml.data.packing import prepare
from hepml.errors import ConfigError, LayoutError, ModelError

LAYOUT: dict[str, Any] = {
    "constituents": {"px": "part_px", "py": "part_py", "pz": "part_pz", "energy": "part_energy"},
    "jet": {"pt": "jet_pt", "eta": "jet_eta", "phi": "jet_phi", "energy": "jet_energy"},
    "collections": {
        "vertices": {"pt": "sv_pt", "eta": "sv_eta", "phi": "sv_phi", "mass": "sv_m", "tracks": "sv_n"}
    },
    "label_prefix": "label_",
}
FEATURES, OF_VERTICES = ("log_pt", "delta_eta", "delta_phi"), ("log_pt", "delta_eta", "delta_phi", "tracks")
TAGGERS = ("pfn", "particlenet", "particlenet_lite", "part", "transformer")


def arrays_with_vertices(jets: int, seed: int = 0) -> dict[str, Any]:
    """Toy jets with none to three vertices near the axis."""
    arrays, rng = toy_arrays(jets, seed=seed), np.random.default_rng(seed)
    counts = rng.integers(0, 4, jets)
    of = np.repeat(np.arange(jets), counts)

    def lists(values: np.ndarray) -> ak.Array:
        return ak.unflatten(values.astype(np.float32), counts)

    arrays["sv_pt"] = lists(rng.uniform(5, 50, len(of)))
    arrays["sv_eta"] = lists(arrays["jet_eta"][of] + rng.normal(0, 0.1, len(of)))
    arrays["sv_phi"] = lists(arrays["jet_phi"][of] + rng.normal(0, 0.1, len(of)))
    arrays["sv_m"] = lists(rng.uniform(0.5, 4, len(of)))
    arrays["sv_n"] = lists(rng.integers(2, 6, len(of)))
    return arrays


@pytest.fixture(scope="module")
def jets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sv") / "sv.root"
    with uproot.recreate(path) as file:
        file["tree"] = arrays_with_vertices(160)
    return path


def small(name: str, **further: Any) -> torch.nn.Module:
    torch.manual_seed(3)
    given = {**SMALL[name], "features": FEATURES, "collections": {"vertices": OF_VERTICES}, **further}
    return hepml.models.create(name, **given).eval()


def test_a_file_its_awkward_jets_and_its_data_set_give_the_same_batch(jets: Path, tmp_path: Path) -> None:
    read = hepml.read_jets(jets, LAYOUT)
    raw = uproot.open(jets)["tree"].arrays(["sv_pt", "sv_n"])
    assert ak.all(ak.isclose(read.vertices.pt, raw.sv_pt, rtol=1e-5))
    assert ak.all(read.vertices.tracks == raw.sv_n)
    inputs = Inputs(FEATURES, collections=(("vertices", OF_VERTICES),))
    batch = prepare(hepml.JetBatch.from_awkward(read), inputs)
    stored = [JetDataset.open(jets, inputs, layout=LAYOUT, cache=c) for c in (None, tmp_path / "cache")]
    again = JetDataset.open(jets, inputs, layout=LAYOUT, cache=tmp_path / "cache", max_jets=10_000)
    for dataset in (*stored, again):
        whole = dataset.batch(slice(None)).collections["vertices"]
        assert torch.equal(whole.offsets, batch.collections["vertices"].offsets)
        torch.testing.assert_close(whole.features, batch.collections["vertices"].features)
    assert stored[0].digest == stored[1].digest
    delta = stored[0].collections["vertices"].select(["delta_phi"])[:, 0].numpy()
    phi = uproot.open(jets)["tree"].arrays(["sv_phi", "jet_phi"])
    away = ak.to_numpy(ak.flatten(phi.sv_phi - phi.jet_phi))
    np.testing.assert_allclose(delta, (away + np.pi) % (2 * np.pi) - np.pi, atol=1e-4)


def test_collections_follow_their_jets_through_every_change_of_a_batch(jets: Path) -> None:
    batch = hepml.JetBatch.from_awkward(hepml.read_jets(jets, LAYOUT))
    counts = batch.collections["vertices"].counts
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(0))
    cases = {
        "take": (batch.take(order), counts[order]),
        "reordered": (batch.reordered(order), counts[order]),
        "slice": (batch[20:50], counts[20:50]),
        "mask": (batch[counts > 1], counts[counts > 1]),
        "leading": (batch.leading(3), counts),
        "double": (batch.to(torch.float64), counts),
        "joined": (hepml.JetBatch.concatenate([batch[:30], batch[30:]]), counts),
    }
    for name, (made, expected) in cases.items():
        assert torch.equal(made.collections["vertices"].counts, expected), name
        assert len(made.collections["vertices"]) == len(made)
    assert cases["double"][0].collections["vertices"].dtype == torch.float64
    assert "vertices" in repr(batch)


@pytest.mark.parametrize("name", TAGGERS)
def test_taggers_read_both_and_a_jet_has_one_score_in_any_batch(jets: Path, name: str) -> None:
    model = small(name).double()
    inputs: Any = model.inputs
    batch = prepare(hepml.JetBatch.from_awkward(hepml.read_jets(jets, LAYOUT)), inputs).to(torch.float64)
    with torch.no_grad():
        whole = model(batch)
        one_by_one = torch.cat([model(jet) for jet in batch[:12]])
        torch.testing.assert_close(one_by_one, whole[:12], rtol=1e-7, atol=1e-9)
        vertices = batch.collections["vertices"]
        turned = torch.flip(torch.arange(len(vertices.four_momenta)), [0])  # of each jet among themselves
        of = vertices.jet_of[turned]
        order = turned[torch.argsort(of, stable=True)]
        permuted = replace(batch, collections={"vertices": vertices.permute(order)})
        torch.testing.assert_close(model(permuted), whole, rtol=1e-7, atol=1e-9)
        changed = vertices.features.clone()
        changed[:, -1] += 1
        other = replace(batch, collections={"vertices": replace(vertices, features=changed)})
        has = vertices.counts > 0
        moved = (model(other) - whole).abs().amax(1)
        assert (moved[has] > 0).all()
        assert (moved[~has] == 0).all()


def test_particlenet_with_vertices_is_weavers_tagger_with_the_same_weights(jets: Path) -> None:
    tagger = pytest.importorskip("weaver.nn.model.ParticleNet", reason="weaver-core is not installed")
    theirs = tagger.ParticleNetTagger(
        3, 4, 2, conv_params=[(4, (8, 8)), (4, (8, 8))], fc_params=[(8, 0.1)], use_fusion=False, trim=False
    ).eval()
    ours = small("particlenet")
    state = dict(theirs.state_dict())
    renamed = {}
    for name, value in state.items():
        name = name.replace("pf_conv.conv.", "clouds.main.")
        name = name.replace("sv_conv.conv.", "clouds.others.of_vertices.")
        renamed[name.removeprefix("pn.")] = value.flatten(1) if value.ndim > 2 else value
    ours.load_state_dict(renamed)
    inputs: Any = ours.inputs
    batch = prepare(hepml.JetBatch.from_awkward(hepml.read_jets(jets, LAYOUT, entry_stop=40)), inputs)
    vertices = batch.collections["vertices"]

    def padded(b: Any, names: Any) -> tuple[torch.Tensor, torch.Tensor]:
        values, most = b.select(names), int(b.counts.max())
        out, mask = torch.zeros(len(b), values.shape[1], most), torch.zeros(len(b), 1, most)
        for i, (low, high) in enumerate(zip(b.offsets[:-1], b.offsets[1:], strict=True)):
            out[i, :, : high - low], mask[i, :, : high - low] = values[low:high].T, 1.0
        return out, mask

    points = ("delta_eta", "delta_phi")
    (pf, mask), (sv, sv_mask) = padded(batch, FEATURES), padded(vertices, OF_VERTICES)
    with torch.no_grad():
        expected = theirs(
            padded(batch, points)[0], pf, mask.bool(), padded(vertices, points)[0], sv, sv_mask.bool()
        )
        torch.testing.assert_close(ours(batch), expected, rtol=1e-4, atol=1e-5)


def test_a_training_reads_standardises_and_predicts_with_two_collections(jets: Path, tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "data": {"train": str(jets), "val": 0.2, "test": 0.2, "layout": LAYOUT},
        "model": {"name": "pfn", "phi": [8], "f": [8], "collections": {"vertices": ["log_pt", "tracks"]}},
        "training": {"epochs": 1, "batch_size": 32, "device": "cpu", "threads": 1},
        "tracking": {"enabled": False},
    }
    run = hepml.train(config, output=tmp_path / "run")
    assert list(run.summary["standards"]["vertices"]) == ["tracks"]
    model = hepml.load_model(run.path)
    scores = hepml.predict(model, str(jets))
    np.testing.assert_allclose(hepml.predict(model, hepml.read_jets(jets, LAYOUT)), scores, atol=1e-6)
    without = {**LAYOUT, "collections": {}}
    with pytest.raises(LayoutError, match="vertices"):
        hepml.predict(model, str(jets), layout=without)
    with pytest.raises(LayoutError, match="vertices"):
        hepml.predict(model, hepml.read_jets(jets, without))
    config["training"]["augment"] = ["rotate_phi", "boost_z"]
    with pytest.raises(ConfigError, match=r"boost_z does not .* \(vertices\)"):
        hepml.train(config, output=tmp_path / "other")
    config["training"]["augment"] = ["rotate_phi", "reflect_phi", "reflect_eta"]
    assert hepml.train(config, output=tmp_path / "turned").summary
    from hepml.inference.exporting import export

    with pytest.raises(ModelError, match="vertices"):
        export(model, tmp_path / "tagger.onnx")


@pytest.mark.parametrize("how", ["dr", "link"])
def test_event_files_give_collections_by_link_and_by_distance(shared: Path, how: str) -> None:
    file = shared / "data" / "root" / "cms_pfnano_10events.root"
    given = {"dr": 0.4} if how == "dr" else {"link": {"table": "JetSVs", "jet": "jetIdx", "index": "sVIdx"}}
    layout = {"jets": {"collection": "Jet"}, "collections": {"vertices": {"collection": "SV", **given}}}
    raw = uproot.open(file)["Events"]
    if how == "link" and "JetSVs_sVIdx" not in raw.keys():  # noqa: SIM118 - uproot's keys are not its iterator
        pytest.skip("this file has no table of secondary vertices")
    jets = hepml.read_jets(file, layout)
    a = raw.arrays(["SV_pt", "SV_eta", "SV_phi", "Jet_eta", "Jet_phi"])
    if how == "dr":
        places = {"j": ak.zip([a.Jet_eta, a.Jet_phi]), "v": ak.zip([a.SV_eta, a.SV_phi])}
        pairs = ak.cartesian(places, nested=True)
        turn = abs(pairs.j["1"] - pairs.v["1"])
        turn = ak.where(turn > np.pi, 2 * np.pi - turn, turn)
        near = np.hypot(pairs.j["0"] - pairs.v["0"], turn) < 0.4
        assert ak.flatten(ak.sum(near, axis=2)).tolist() == ak.num(jets.vertices).tolist()
    assert ak.sum(ak.num(jets.vertices)) > 0
    known = {round(float(p), 3) for p in ak.flatten(a.SV_pt)}
    assert {round(float(p), 3) for p in ak.flatten(jets.vertices.pt)} <= known
