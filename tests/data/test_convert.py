"""Published formats become our ROOT files: same jets, same labels, no truth, in bounded memory, whole or not
at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import uproot

from hepml.cli.main import main
from hepml.data.dataset import JetDataset
from hepml.data.inputs import Inputs
from hepml.data.public.convert import convert
from hepml.errors import ConfigError, DataError, FileError, LayoutError


def jets_of(rng: np.random.Generator, jets: int, most: int) -> np.ndarray:
    """Zero-padded [N, most, 4] (E, px, py, pz), in falling pT, with at least one constituent."""
    counts = rng.integers(1, most + 1, jets)
    pt = np.sort(rng.exponential(20, (jets, most)) + 0.1, axis=1)[:, ::-1]
    eta, phi = rng.normal(0.3, 0.2, (jets, most)), rng.normal(1.0, 0.2, (jets, most))
    p = np.stack([pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=2)
    p[np.arange(most)[None] >= counts[:, None]] = 0
    return p.astype(np.float32)


def write_table(path: Path, p: np.ndarray, labels: np.ndarray, truth: float = 1e6) -> Path:
    """A file as the reference data set has it: 806 columns, pandas table format."""
    import pandas

    most = p.shape[1]
    table = pandas.DataFrame(
        p.reshape(len(p), -1), columns=[f"{q}_{i}" for i in range(most) for q in ("E", "PX", "PY", "PZ")]
    )
    truths = pandas.DataFrame({f"truth{q}": np.float32(truth) * labels for q in ("E", "PX", "PY", "PZ")})
    last = pandas.DataFrame(
        {"ttv": np.zeros(len(p), dtype=np.int64), "is_signal_new": labels.astype(np.int64)}
    )
    pandas.concat([table, truths, last], axis=1).to_hdf(
        path, key="table", format="table", complib="blosc", complevel=5
    )
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    p, labels = jets_of(rng, 90, 200), rng.integers(0, 2, 90)
    return write_table(tmp_path_factory.mktemp("table") / "test.h5", p, labels), p, labels


def test_the_top_tagging_table_keeps_every_constituent_and_label(
    table: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    path, p, labels = table
    seen: list[int] = []
    report = convert([path], tmp_path / "out.root", chunk=40, tell=lambda done, total: seen.append(done))
    assert seen == [40, 80, 90]
    assert report["classes"] == {"QCD": int((labels == 0).sum()), "Tbqq": int(labels.sum())}
    read = JetDataset.open(tmp_path / "out.root", Inputs())
    assert read.classes == ("QCD", "Tbqq")
    assert np.array_equal(read.labels.numpy(), labels)  # type: ignore[union-attr]
    assert np.array_equal(read.counts, (p[:, :, 0] > 0).sum(axis=1))
    assert np.array_equal(read.four_momenta.numpy(), p[p[:, :, 0] > 0]), (
        "bit by bit, in the order of the file"
    )


def test_the_truth_never_reaches_the_output(
    table: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """truthE and its kin are non-zero for tops only: a tagger that saw them would be perfect and
    worthless."""
    path, p, labels = table
    convert([path], tmp_path / "out.root")
    with uproot.open(tmp_path / "out.root") as file:
        branches = file["tree"].arrays(library="np")
    assert not [name for name in branches if "truth" in name.lower() or "ttv" in name]
    for name, values in branches.items():
        flat = np.concatenate(values) if values.dtype == object else values
        assert not np.any(np.abs(flat.astype(np.float64)) >= 1e6), f"{name} holds a truth value"
    other = write_table(tmp_path / "other.h5", p, labels, truth=7.0)
    convert([other], tmp_path / "other.root")
    with uproot.open(tmp_path / "other.root") as file:
        again = file["tree"].arrays(library="np")
    assert all(np.array_equal(np.concatenate([np.atleast_1d(x) for x in a]),
    np.concatenate([np.atleast_1d(x) for x in again[n]]))
               for n, a in branches.items()), "the output does not depend on the truth columns"  # fmt: skip


def test_jet_branches_and_relative_angles_follow_from_the_constituents(
    table: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    path, _, _ = table
    convert([path], tmp_path / "out.root")
    stored = JetDataset.open(tmp_path / "out.root", Inputs(features=("delta_eta", "delta_phi", "log_pt_rel")))
    batch = stored.batch(np.arange(len(stored)))
    computed = batch.with_four_momenta(batch.four_momenta).select(stored.feature_names)
    assert stored.features is not None
    assert np.allclose(stored.features.numpy(), computed.numpy(), atol=2e-5)


def test_energyflow_jets_get_their_masses_charges_and_kinds_from_the_ids(tmp_path: Path) -> None:
    x = np.zeros((3, 4, 4))
    x[0, :2] = [[5.0, 0.5, 1.0, 22], [50.0, 0.4, 1.1, -211]]  # not in falling pT
    x[1, :3] = [[80.0, -0.2, 6.0, 2112], [3.0, -0.1, 6.1, 11], [1.0, -0.3, 0.1, 9999]]
    x[2, :1] = [[10.0, 1.0, 2.0, -2212]]
    np.savez_compressed(tmp_path / "qg.npz", X=x, y=np.array([1.0, 0.0, 1.0]))
    report = convert([tmp_path / "qg.npz"], tmp_path / "qg.root", chunk=2)
    assert report["classes"] == {"gluon": 1, "quark": 2}
    assert report["unknown_ids"] == 1
    with uproot.open(tmp_path / "qg.root") as file:
        tree = file["tree"].arrays(library="np")
    assert tree["part_charge"][0].tolist() == [-1, 0]
    assert tree["part_charge"][1].tolist() == [0, -1, 0]
    assert tree["part_isNeutralHadron"][1].tolist() == [True, False, False]
    assert tree["part_isElectron"][1].tolist() == [False, True, False]
    assert tree["part_isPhoton"][0].tolist() == [False, True]
    proton = [float(tree[f"part_{q}"][2][0]) for q in ("energy", "px", "py", "pz")]
    assert proton[0] ** 2 - sum(q**2 for q in proton[1:]) == pytest.approx(0.938272**2, rel=1e-3)
    transverse = np.hypot(10.0, 0.938272)
    assert proton == pytest.approx(
        [transverse * np.cosh(1), 10 * np.cos(2), 10 * np.sin(2), transverse * np.sinh(1)], rel=1e-6
    )
    read = JetDataset.open(
        tmp_path / "qg.root", Inputs(features=("charge", "is_photon")), classes=["gluon", "quark"]
    )
    assert read.labels is not None
    assert read.labels.tolist() == [1, 0, 1]


def test_the_reference_jets_survive_the_way_through_root(shared: Path, tmp_path: Path) -> None:
    path = shared / "data" / "real" / "toptag_reference_1000.npz"
    report = convert([path], tmp_path / "real.root", classes=["QCD", "Tbqq"], chunk=300)
    with np.load(path) as real:
        read = JetDataset.open(tmp_path / "real.root", Inputs())
        assert read.labels is not None
        assert np.array_equal(read.labels.numpy(), real["labels"])
        assert np.array_equal(read.counts, np.diff(real["offsets"]))
        assert report["constituents"] == len(real["four_momenta"])
        order = np.lexsort(
            (-np.hypot(*real["four_momenta"][:, 1:3].T), np.repeat(np.arange(1000), read.counts))
        )
        assert np.allclose(read.four_momenta.numpy(), real["four_momenta"][order], rtol=1e-6)


def test_several_files_are_joined_and_the_first_jets_can_be_asked_for(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    parts = [write_table(tmp_path / f"{i}.h5", jets_of(rng, 20, 6), rng.integers(0, 2, 20)) for i in range(2)]
    report = convert(parts, tmp_path / "out.root", max_jets=33)
    assert list(report["files"].values()) == [20, 13]
    assert len(JetDataset.open(tmp_path / "out.root", Inputs())) == 33


def test_what_is_wrong_with_a_file_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    import pandas

    out = tmp_path / "out.root"
    good = write_table(tmp_path / "good.h5", jets_of(np.random.default_rng(0), 5, 3), np.arange(5) % 2)
    bad = jets_of(np.random.default_rng(0), 5, 3)
    bad[2, 0, 1] = np.nan
    pandas.DataFrame({"E_0": [1.0], "PX_0": [1.0]}).to_hdf(
        tmp_path / "columns.h5", key="table", format="table"
    )
    (tmp_path / "broken.h5").write_bytes(good.read_bytes()[:500])
    np.savez(tmp_path / "other.npz", nothing=np.zeros(3))
    np.savez(
        tmp_path / "ours.npz", four_momenta=np.ones((2, 4)), offsets=np.array([0, 2]), labels=np.array([5])
    )
    cases = [
        (["missing.h5"], FileError, "no such file"),
        (["columns.h5"], LayoutError, "PY_0"),
        (["broken.h5"], FileError, "HDF5"),
        (["other.npz"], LayoutError, "no known format"),
        ([write_table(tmp_path / "nan.h5", bad, np.arange(5) % 2).name], DataError, "jet 2"),
        (["good.h5", "ours.npz"], ConfigError, "different formats"),
    ]
    for names, kind, text in cases:
        with pytest.raises(kind, match=text):
            convert([tmp_path / name for name in names], out)
    with pytest.raises(ConfigError, match="class names"):
        convert([tmp_path / "ours.npz"], out, classes=["a", "b"])
    with pytest.raises(ConfigError, match=r"\.root"):
        convert([good], tmp_path / "out.h5")
    assert not out.exists()
    assert not list(tmp_path.glob("*.part"))
    assert not list(tmp_path.glob(".*.part"))


def test_an_npz_of_any_size_takes_the_memory_of_a_piece(tmp_path: Path) -> None:
    """30,000 jets, 77 MB unpacked, in pieces of 2,000: the process grows by less than half of the array."""
    rng = np.random.default_rng(0)
    x = np.zeros((30_000, 80, 4))
    x[:, :2] = rng.uniform(1, 2, (30_000, 2, 4))
    np.savez_compressed(tmp_path / "qg.npz", X=x, y=np.arange(30_000) % 2)
    program = (
        "import sys\n"
        "def peak():  # ru_maxrss would be that of the process that started this one\n"
        "    return int(next(s for s in open('/proc/self/status') if s.startswith('VmHWM')).split()[1])\n"
        "from hepml.data.public.convert import convert\n"
        "convert([sys.argv[1]], sys.argv[2], max_jets=2000, chunk=2000)\n"
        "before = peak()\n"
        "convert([sys.argv[1]], sys.argv[2], chunk=2000)\n"
        "print(peak() - before)\n"
    )
    words = [sys.executable, "-c", program, str(tmp_path / "qg.npz"), str(tmp_path / "qg.root")]
    grown = int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    assert grown >= 0
    assert grown * 1024 < x.nbytes / 2, f"{grown / 1024:.0f} MB for an array of {x.nbytes / 1e6:.0f} MB"


def test_the_command_reports_what_it_wrote(
    table: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, _, labels = table
    assert main(["convert", str(path), "-o", str(tmp_path / "a.root"), "--json", "-q"]) == 0
    assert json.loads(capfd.readouterr().out)["classes"]["Tbqq"] == int(labels.sum())
    assert main(["convert", str(path), "-o", str(tmp_path / "b.root"), "--max-jets", "10", "-q"]) == 0
    assert "10 jets (QCD" in capfd.readouterr().out
