"""One jet has one score, through whichever door it comes: file, awkward, packed batch, padded arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch
from small_taggers import NAMES, SMALL
from torch import nn

import hepml
from hepml.data.reading.reader import read_jets
from hepml.models import create

JETS = 60
MOMENTUM = ("energy", "px", "py", "pz")


def from_awkward(jets: ak.Array) -> Any:
    return jets


def packed(jets: ak.Array) -> Any:
    return hepml.JetBatch.from_awkward(jets)


def packed_in_pieces(jets: ak.Array) -> Any:
    batch = hepml.JetBatch.from_awkward(jets)
    return hepml.JetBatch.concatenate([batch[:30], batch[30:31], batch[31:]])


def padded(jets: ak.Array) -> Any:
    lists = jets.constituents
    longest = int(ak.max(ak.num(lists)))

    def rectangle(values: Any) -> np.ndarray:
        return ak.to_numpy(ak.fill_none(ak.pad_none(values, longest, axis=1), np.nan))

    mask = np.arange(longest) < ak.to_numpy(ak.num(lists))[:, None]
    own = [name for name in ak.fields(lists) if name not in MOMENTUM]
    return hepml.JetBatch.from_padded(
        np.stack([rectangle(lists[name]) for name in MOMENTUM], axis=-1).astype(np.float64),
        mask,
        columns={name: rectangle(lists[name]) for name in own},
    )


DOORS: dict[str, Callable[[ak.Array], Any]] = {
    "awkward": from_awkward,
    "packed": packed,
    "packed in pieces": packed_in_pieces,
    "padded": padded,
}


def tagger(name: str) -> nn.Module:
    torch.manual_seed(1)
    return create(name, **SMALL.get(name, {})).eval()


@pytest.fixture(scope="module")
def simulated(toptag: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ak.Array]:
    """Jets whose file stores jet momenta and relative coordinates."""
    import uproot

    path = tmp_path_factory.mktemp("doors") / "jets.root"
    with uproot.open(toptag / "test.root") as file:
        branches = file["tree"].arrays(entry_stop=JETS)
    counted = {n: branches[n] for n in branches.fields if n != "npart"}
    kinds = {
        n: f"var * {ak.to_numpy(ak.flatten(a)).dtype}" if a.ndim > 1 else ak.to_numpy(a).dtype
        for n, a in counted.items()
    }
    with uproot.recreate(path) as file:
        file.mktree("tree", kinds, counter_name=lambda counted: "npart").extend(counted)
    return path, read_jets(path)


def check(model: nn.Module, path: Path, jets: ak.Array, doors: Any = DOORS) -> None:
    scores = hepml.predict(model, path, batch_size=25)
    assert np.isfinite(scores).all()
    for door in doors:
        found = hepml.predict(model, DOORS[door](jets), batch_size=25)
        np.testing.assert_allclose(found, scores, rtol=0, atol=1e-6, err_msg=f"{door} and file differ")


@pytest.mark.parametrize("name", NAMES)
def test_a_jet_has_one_score_at_every_door(name: str, simulated: tuple[Path, ak.Array]) -> None:
    model = tagger(name)
    # padded arrays have no jet columns
    doors = [d for d in DOORS if d != "padded" or not model.inputs.jet_features]  # type: ignore[union-attr]
    check(model, *simulated, doors)


@pytest.mark.parametrize("sample", ["jetclass_500", "toptag_reference_1000", "quarkgluon_reference_1000"])
def test_a_real_jet_has_one_score_at_every_door(sample: str, shared: Path, tmp_path: Path) -> None:
    with np.load(shared / "data" / "real" / f"{sample}.npz") as given:
        offsets = given["offsets"][: JETS + 1]
        np.savez(
            tmp_path / "jets.npz", four_momenta=given["four_momenta"][: int(offsets[-1])], offsets=offsets
        )
    for name in ("particlenet", "dgcnn", "part", "mlp", "lorentznet"):
        check(tagger(name), tmp_path / "jets.npz", read_jets(tmp_path / "jets.npz"))


def test_constituents_beyond_the_leading_ones_are_cut_at_every_door(simulated: tuple[Path, ak.Array]) -> None:
    path, jets = simulated
    torch.manual_seed(1)
    model = create("pfn", phi=(8, 8), f=(8,), max_constituents=10).eval()
    scores = hepml.predict(model, path)
    for door in DOORS.values():
        np.testing.assert_allclose(hepml.predict(model, door(jets)), scores, rtol=0, atol=1e-6)


def test_momenta_of_calibrated_jets_pass_through_awkward(tmp_path: Path) -> None:
    """A file whose jets differ from the sums of their constituents, under names of its own."""
    from toys import toy_arrays, write_toy_jets

    arrays = toy_arrays(40, seed=3)
    for name in ("pt", "energy"):
        arrays[f"jet_{name}"] = arrays[f"jet_{name}"] * np.float32(1.1)
    renamed = {
        n.replace("jet_", "fat_") if n in ("jet_eta", "jet_phi", "jet_energy") else n: a
        for n, a in arrays.items()
    }
    path = write_toy_jets(tmp_path / "jets.root", arrays=renamed)
    layout = {
        "constituents": {n: f"part_{n}" for n in ("px", "py", "pz", "energy")},
        "jet": {"pt": "jet_pt", "eta": "fat_eta", "phi": "fat_phi", "energy": "fat_energy"},
        "labels": {"QCD": "label_QCD", "Tbqq": "label_Tbqq"},
    }
    torch.manual_seed(1)
    model = create("pfn", phi=(8, 8), f=(8,)).eval()
    jets = read_jets(path, layout)
    scores = hepml.predict(model, path, layout=layout)
    assert "momentum" in jets.fields
    np.testing.assert_allclose(hepml.predict(model, jets), scores, rtol=0, atol=1e-6)
    np.testing.assert_allclose(hepml.predict(model, packed(jets)), scores, rtol=0, atol=1e-6)
    plain = hepml.JetBatch.from_awkward(jets[["constituents"]])
    assert np.abs(hepml.predict(model, plain) - scores).max() > 1e-4, "these jets are calibrated"
