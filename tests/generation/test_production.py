"""`generate` is reproducible, restartable, in the JetClass layout, and says what is wrong."""

from __future__ import annotations

import builtins
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from hepml.errors import ConfigError, FileError, MissingExtraError
from hepml.generation import GenerationReport, generate, recipes
from hepml.generation.columns import LABELS
from hepml.generation.production import _chunk_size

SMALL: dict[str, Any] = {"multiple_interactions": False, "events_per_chunk": 12}

JETCLASS_BRANCHES = {
    "part_px", "part_py", "part_pz", "part_energy", "part_deta", "part_dphi", "part_d0val", "part_d0err",
    "part_dzval",
    "part_dzerr", "part_charge", "part_isChargedHadron", "part_isNeutralHadron", "part_isPhoton",
    "part_isElectron",
    "part_isMuon", "jet_pt", "jet_eta", "jet_phi", "jet_energy", "jet_nparticles", "jet_sdmass", "jet_tau1",
    "jet_tau2",
    "jet_tau3", "jet_tau4", *(f"label_{name}" for name in LABELS),
}  # fmt: skip


@pytest.fixture(scope="session")
def dozen(tmp_path_factory: pytest.TempPathFactory) -> GenerationReport:
    """Twelve jets of seed 5, made at one go in this process: what every other way of making them must
    give."""
    return generate("toptag", 12, 5, 1, tmp_path_factory.mktemp("generation") / "dozen.root", **SMALL)


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[GenerationReport, ak.Array]:
    """Forty top-tagging jets without multiple interactions, made in this process, and what the file holds."""
    path = tmp_path_factory.mktemp("generation") / "jets.root"
    report = generate("toptag", 40, 11, 1, path, multiple_interactions=False, events_per_chunk=60)
    return report, read(path)


def read(path: Path) -> ak.Array:
    """The whole tree."""
    with uproot.open(path) as file:
        return file["tree"].arrays()


# ------------------------------------------------------------------------------------------------------------
# layout
def test_the_tree_has_every_jetclass_branch_and_weight_and_pthat(
    sample: tuple[GenerationReport, ak.Array],
) -> None:
    report, jets = sample
    assert set(jets.fields) == JETCLASS_BRANCHES | {"npart", "weight", "aux_pthat"}
    with uproot.open(report.output) as file:
        assert file["tree"].classname == "TTree"
        assert file["tree"]["part_px"].typename == "float[]"
        assert file["tree"]["label_Hqql"].typename == "int32_t"


def test_how_the_jets_were_made_is_kept_in_the_file(sample: tuple[GenerationReport, ak.Array]) -> None:
    report, _ = sample
    with uproot.open(report.output) as file:
        record = json.loads(str(file["hepml_generation"]))
    assert record == json.loads(json.dumps(report.record))
    assert (record["recipe"], record["seed"], record["multiple_interactions"]) == ("toptag", 11, False)
    assert record["versions"]["pythia8mc"].startswith("8.3")
    assert all(value > 0 for value in record["cross_section_pb"].values())
    assert any("HardQCD:all" in line for process in record["processes"] for line in process["settings"])


def test_half_the_jets_are_tops_and_each_has_one_label(sample: tuple[GenerationReport, ak.Array]) -> None:
    report, jets = sample
    labels = np.stack([ak.to_numpy(jets[f"label_{name}"]) for name in LABELS], axis=1)
    assert (labels.sum(axis=1) == 1).all()
    assert report.jets == {"Tbqq": 20, "QCD": 20}
    assert labels.sum(axis=0)[[LABELS.index("Tbqq"), LABELS.index("QCD")]].tolist() == [20, 20]


def test_every_jet_is_in_the_window(sample: tuple[GenerationReport, ak.Array]) -> None:
    _, jets = sample
    assert ak.all((jets.jet_pt >= 550) & (jets.jet_pt <= 650) & (abs(jets.jet_eta) <= 2))


def test_constituents_are_massless_sorted_and_add_up_to_the_jet(
    sample: tuple[GenerationReport, ak.Array],
) -> None:
    _, jets = sample
    pt = np.hypot(jets.part_px, jets.part_py)
    assert ak.all(pt[:, 1:] <= pt[:, :-1])
    momentum = np.sqrt(jets.part_px**2 + jets.part_py**2 + jets.part_pz**2)
    assert ak.all(abs(momentum / jets.part_energy - 1) < 1e-5)
    assert ak.all(ak.num(jets.part_px) == jets.npart)
    assert ak.all(jets.npart == np.minimum(jets.jet_nparticles, 200))
    assert ak.to_numpy(ak.sum(jets.part_energy, axis=1)) == pytest.approx(
        ak.to_numpy(jets.jet_energy), rel=1e-5
    )
    px, py = ak.sum(jets.part_px, axis=1), ak.sum(jets.part_py, axis=1)
    assert ak.to_numpy(np.hypot(px, py)) == pytest.approx(ak.to_numpy(jets.jet_pt), rel=1e-5)


def test_every_constituent_is_of_one_kind_and_only_tracks_have_charge_and_displacement(
    sample: tuple[GenerationReport, ak.Array],
) -> None:
    _, jets = sample
    kinds = ("ChargedHadron", "NeutralHadron", "Photon", "Electron", "Muon")
    assert ak.all(sum(jets[f"part_is{kind}"] * 1 for kind in kinds) == 1)
    neutral = jets.part_isPhoton | jets.part_isNeutralHadron
    assert ak.all((jets.part_charge == 0) == neutral)
    assert ak.all(jets.part_d0err[neutral] == 0)
    assert ak.all(jets.part_d0err[~neutral] > 0)


def test_weights_have_mean_one_in_each_class_and_favour_the_sparse_slices(
    sample: tuple[GenerationReport, ak.Array],
) -> None:
    _, jets = sample
    for label in ("Tbqq", "QCD"):
        chosen = jets[jets[f"label_{label}"] == 1]
        assert ak.mean(chosen.weight) == pytest.approx(1.0, rel=1e-5)
        assert ak.all(chosen.weight > 0)
    assert ak.std(jets.weight) > 0


def test_top_jets_have_the_mass_of_the_top_and_qcd_jets_do_not(
    sample: tuple[GenerationReport, ak.Array],
) -> None:
    _, jets = sample
    total = {c: ak.sum(jets[f"part_{c}"], axis=1) for c in ("energy", "px", "py", "pz")}
    mass = np.sqrt(total["energy"] ** 2 - total["px"] ** 2 - total["py"] ** 2 - total["pz"] ** 2)
    assert 155 < np.median(ak.to_numpy(mass[jets.label_Tbqq == 1])) < 190
    assert np.median(ak.to_numpy(mass[jets.label_QCD == 1])) < 130


# --------------------------------------------------------------------------------------------------------
# reproducibility
def test_any_number_of_workers_gives_the_same_jets(tmp_path: Path, dozen: GenerationReport) -> None:
    two = generate("toptag", 12, 5, 2, tmp_path / "two.root", **SMALL)
    assert two.chunks == dozen.chunks >= 2
    assert ak.array_equal(read(dozen.output), read(two.output))
    assert two.record == dozen.record


def saved(parts: Path) -> list[Path]:
    """Chunks under their final names; one that is being written has a temporary name."""
    return [path for path in parts.glob("*.npz") if not path.name.startswith(".")]


def test_a_killed_run_goes_on_to_the_same_jets(tmp_path: Path, dozen: GenerationReport) -> None:
    output = tmp_path / "jets.root"
    parts = tmp_path / "jets.root.parts"
    program = (
        f"from hepml.generation import generate; generate('toptag', 12, 5, 1, {str(output)!r}, **{SMALL!r})"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        deadline = time.monotonic() + 120
        while not saved(parts) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert not output.exists()
    assert saved(parts)
    report = generate("toptag", 12, 5, 1, output, **SMALL)
    assert report.chunks_resumed >= 1
    assert not parts.exists()
    assert dozen.chunks_resumed == 0
    assert ak.array_equal(read(output), read(dozen.output))


def test_an_unfinished_run_with_other_settings_is_not_mixed_in(tmp_path: Path) -> None:
    output = tmp_path / "jets.root"

    def stop_when_half_is_there(done: int, total: int) -> None:
        if done >= total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate("toptag", 4, 5, 1, output, progress=stop_when_half_is_there, **SMALL)
    with pytest.raises(FileError, match="another seed"):
        generate("toptag", 4, 6, 1, output, **SMALL)
    report = generate("toptag", 4, 6, 1, output, resume=False, **SMALL)
    assert (report.record["seed"], report.chunks_resumed) == (6, 0)


def test_a_damaged_chunk_is_made_again(tmp_path: Path, dozen: GenerationReport) -> None:
    output = tmp_path / "jets.root"

    def stop_at_the_first(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate("toptag", 12, 5, 1, output, progress=stop_at_the_first, **SMALL)
    (saved,) = (tmp_path / "jets.root.parts").glob("*.npz")
    saved.write_bytes(saved.read_bytes()[:100])
    assert generate("toptag", 12, 5, 1, output, **SMALL).chunks_resumed == 0
    assert ak.array_equal(read(output), read(dozen.output))


def test_unweighted_jets_all_weigh_one_and_another_seed_gives_other_jets(
    tmp_path: Path, dozen: GenerationReport
) -> None:
    report = generate("toptag", 4, 6, 1, tmp_path / "jets.root", unweighted=True, **SMALL)
    jets = read(report.output)
    assert report.weight_range == (1.0, 1.0)
    assert ak.all(jets.weight == 1)
    assert not set(ak.to_list(jets.jet_pt)) & set(ak.to_list(read(dozen.output).jet_pt))


def test_progress_starts_at_nothing_rises_and_ends_at_all(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[int, int]] = []
    generate("toptag", 4, 5, 1, tmp_path / "jets.root", progress=lambda *state: seen.append(state), **SMALL)
    assert seen[0] == (0, 4)
    assert seen[-1] == (4, 4)
    assert seen == sorted(seen)
    assert capfd.readouterr().out == ""  # the banners of Pythia and FastJet are nobody's output


def test_jetclass_makes_every_class_it_names(tmp_path: Path) -> None:
    report = generate(
        "jetclass", 6, 5, 1, tmp_path / "jets.root", multiple_interactions=False, events_per_chunk=15
    )
    jets = read(report.output)
    made = {process.name for process in recipes()["jetclass"].processes}
    assert made == {"Hbb", "Hgg", "Wqq", "Zqq", "Tbqq", "QCD"}
    assert {name: int(ak.sum(jets[f"label_{name}"])) for name in LABELS} == {
        name: int(name in made) for name in LABELS
    }
    assert ak.all((jets.jet_pt >= 500) & (jets.jet_pt <= 1000))


@pytest.mark.parametrize(("jets", "events"), [(40, 100), (3001, 1500), (24_000, 1500), (200_000, 6000)])
def test_small_samples_have_small_chunks_and_large_ones_start_pythia_less_often(
    jets: int, events: int
) -> None:
    assert _chunk_size(jets, classes=2) == events


# ------------------------------------------------------------------------------------------------------------
# errors
def test_a_misspelt_recipe_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'toptag'"):
        generate("toptaq", 4, 1, 1, tmp_path / "jets.root")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"jets": 1}, "at least 2"),
        ({"seed": -1}, "out of range"),
        ({"workers": 0}, "at least one"),
        ({"multiple_interaction": False}, "did you mean 'multiple_interactions'"),
        ({"events_per_chunk": -3}, "at least one"),
    ],
)
def test_numbers_and_options_that_make_no_sense_are_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    arguments: dict[str, Any] = {"jets": 4, "seed": 1, "workers": 1, **change}
    with pytest.raises(ConfigError, match=message):
        generate("toptag", output=tmp_path / "jets.root", **arguments)
    assert not list(tmp_path.iterdir())


def test_a_missing_extra_is_named_with_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without_pythia(name: str, *rest: Any, **more: Any) -> Any:
        if name == "pythia8mc":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_pythia)
    with pytest.raises(MissingExtraError, match=r"pip install 'hepml-jets\[generate\]'"):
        generate("toptag", 4, 1, 1, tmp_path / "jets.root")
    assert not (tmp_path / "jets.root").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such directory"):
        generate("toptag", 4, 1, 1, tmp_path / "absent" / "jets.root")
    (tmp_path / "file.root.parts").write_text("in the way")
    with pytest.raises(FileError, match="cannot write"):
        generate("toptag", 4, 1, 1, tmp_path / "file.root")
    with pytest.raises(FileError, match="is a directory"):
        generate("toptag", 4, 1, 1, tmp_path)


def test_a_full_disk_leaves_no_file_under_the_final_name_and_the_chunks_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "jets.root"

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(uproot.WritableDirectory, "mktree", full)
        with pytest.raises(FileError, match="No space left"):
            generate("toptag", 4, 5, 1, output, **SMALL)
    assert {path.name for path in tmp_path.iterdir()} == {"jets.root.parts"}
    report = generate("toptag", 4, 5, 1, output, **SMALL)
    assert report.chunks_resumed == report.chunks
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez_compressed", full)
        with pytest.raises(FileError, match="cannot save a chunk"):
            generate("toptag", 4, 5, 1, tmp_path / "other.root", **SMALL)
