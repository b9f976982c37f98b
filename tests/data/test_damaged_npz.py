"""An npz file whose arrays do not fit each other is refused in one line, by reading, converting
and scoring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hepml
from hepml.data.public.convert import convert
from hepml.errors import HepmlError
from hepml.evaluation.score_files import read_scores

JETS = 20


def _good() -> dict[str, Any]:
    draw = np.random.default_rng(1)
    counts = draw.integers(1, 6, JETS)
    p = np.abs(draw.normal(size=(counts.sum(), 3))) + 1
    momenta = np.concatenate([np.linalg.norm(p, axis=1, keepdims=True), p], axis=1)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return {"four_momenta": momenta, "offsets": offsets, "labels": np.arange(JETS) % 2}


GOOD = _good()
END = int(GOOD["offsets"][-1])
ODD: dict[str, dict[str, Any]] = {
    "fewer labels": {"labels": GOOD["labels"][:5]},
    "more labels": {"labels": np.zeros(JETS + 1, int)},
    "labels of two dimensions": {"labels": np.eye(2)[GOOD["labels"]]},
    "one label": {"labels": np.int64(1)},
    "fractional labels": {"labels": GOOD["labels"] + 0.5},
    "NaN labels": {"labels": np.where(GOOD["labels"] == 1, np.nan, 0.0)},
    "a huge label": {"labels": np.where(np.arange(JETS) == 3, 2**62, 0)},
    "a huge float label": {"labels": np.where(np.arange(JETS) == 3, 1e300, 0)},
    "a negative label": {"labels": GOOD["labels"] - 7},
    "text labels": {"labels": np.array(["a", "b"] * (JETS // 2))},
    "object labels": {"labels": np.array([1, "b"] * (JETS // 2), dtype=object)},
    "complex labels": {"labels": GOOD["labels"] * 1j},
    "fractional offsets": {"offsets": GOOD["offsets"] + np.r_[0, np.full(JETS - 1, 0.5), 0]},
    "NaN offsets": {"offsets": np.where(np.arange(JETS + 1) == 4, np.nan, GOOD["offsets"])},
    "falling offsets": {"offsets": np.r_[0, 7, 3, GOOD["offsets"][3:]]},
    "negative offsets": {"offsets": np.r_[0, -3, GOOD["offsets"][2:]]},
    "offsets that begin late": {"offsets": np.r_[1, GOOD["offsets"][1:]]},
    "offsets that end early": {"offsets": np.r_[GOOD["offsets"][:-1], END - 1]},
    "offsets beyond the end": {"offsets": np.r_[GOOD["offsets"][:-1], 2**62]},
    "offsets of two dimensions": {"offsets": np.stack([GOOD["offsets"][:-1], GOOD["offsets"][1:]])},
    "no offsets": {"offsets": np.zeros(0, int)},
    "text offsets": {"offsets": np.array([str(i) for i in GOOD["offsets"]])},
    "flat momenta": {"four_momenta": GOOD["four_momenta"].ravel()},
    "momenta of three numbers": {"four_momenta": GOOD["four_momenta"][:, :3]},
    "text momenta": {"four_momenta": GOOD["four_momenta"].astype(str)},
    "object momenta": {"four_momenta": GOOD["four_momenta"].astype(object)},
    "fewer weights": {"weights": np.ones(5)},
    "weights of two dimensions": {"weights": np.ones((JETS, 3))},
    "text weights": {"weights": np.array(["1"] * JETS)},
    "classes that are numbers": {"classes": np.arange(2)},
    "a class named twice": {"classes": np.array(["a", "a"])},
    "labels beyond the classes": {"classes": np.array(["a"])},
    "an array of objects beside": {"other": np.array([{}, []], dtype=object)},
}


@pytest.mark.parametrize("name", ODD)
def test_arrays_that_do_not_fit_are_refused(name: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **{**GOOD, **ODD[name]})
    for use in (
        lambda: hepml.read_jets(tmp_path / "x.npz"),
        lambda: convert([tmp_path / "x.npz"], tmp_path / "out.root"),
    ):
        if name == "an array of objects beside" and use.__code__.co_names[0] == "convert":
            continue
        with pytest.raises(HepmlError) as refused:
            use()
        assert "x.npz" in str(refused.value)
        assert "\n" not in str(refused.value)
    assert not (tmp_path / "out.root").exists()


@pytest.mark.parametrize("name", [name for name in ODD if "label" in name or "weight" in name])
def test_labels_and_weights_of_scores_that_do_not_fit_are_refused(name: str, tmp_path: Path) -> None:
    arrays = {"labels": GOOD["labels"], "mine": np.linspace(0, 1, JETS), **ODD[name]}
    if "negative" in name or "beyond" in name:
        pytest.skip("labels of scores are compared with the classes when they are evaluated")
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(HepmlError) as refused:
        read_scores(tmp_path / "x.npz")
    assert "\n" not in str(refused.value)


def test_whole_numbers_of_any_type_are_read(tmp_path: Path) -> None:
    for kind in (np.float32, np.uint8, np.int64, bool):
        np.savez(tmp_path / "x.npz", **{**GOOD, "labels": GOOD["labels"].astype(kind),
                                        "offsets": GOOD["offsets"].astype(np.float64)})  # fmt: skip
        assert hepml.read_jets(tmp_path / "x.npz").label.tolist() == GOOD["labels"].tolist()


def test_constituents_that_convert_leaves_out_are_counted(tmp_path: Path) -> None:
    x = np.zeros((4, 5, 4))
    x[:, :3] = [10.0, 0.1, 0.2, 22]
    x[0, 0, 0], x[1, 1, 0], x[2, 2, 0] = np.nan, -3.0, 0.0
    np.savez(tmp_path / "x.npz", X=x, y=np.array([0.0, 1.0, 0.0, 1.0]))
    report = convert([tmp_path / "x.npz"], tmp_path / "out.root")
    assert report["dropped"] == {"NaN as pT": 1, "negative pT": 1, "no pT": 1}
    assert report["constituents"] == 9


def test_a_header_that_asks_for_more_than_there_is_takes_no_memory(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **GOOD)
    data = (tmp_path / "x.npz").read_bytes()
    shape = f"({END}, 4)".encode()
    assert shape in data
    (tmp_path / "x.npz").write_bytes(data.replace(shape + b", }" + b" " * 12, b"(%d, 4), }" % (10**12 + END)))
    with pytest.raises(HepmlError, match="damaged"):
        hepml.read_jets(tmp_path / "x.npz")


@pytest.mark.parametrize("seed", range(60))
def test_an_npz_with_flipped_bytes_is_read_as_it_was_or_refused(seed: int, tmp_path: Path) -> None:
    np.savez(tmp_path / "whole.npz", **GOOD)
    truth = hepml.read_jets(tmp_path / "whole.npz")
    draw = np.random.default_rng(seed)
    data = bytearray((tmp_path / "whole.npz").read_bytes())
    if seed % 3 == 0:
        data = data[: int(draw.integers(len(data)))]
    else:
        for _ in range(seed % 3):
            data[int(draw.integers(len(data)))] ^= 1 << int(draw.integers(8))
    (tmp_path / "x.npz").write_bytes(data)
    try:
        read = hepml.read_jets(tmp_path / "x.npz")
    except HepmlError:
        return
    assert read.constituents.px.tolist() == truth.constituents.px.tolist()
    assert read.label.tolist() == truth.label.tolist()
