"""Recorded motion is read as it was written, and what is wrong with a recording is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hepml.cli.main import main
from hepml.dynamics.recordings import from_arrays, read_pendulum, read_recording
from hepml.dynamics.systems import TwoBody
from hepml.dynamics.trajectories import generate
from hepml.errors import DataError, FileError


def test_published_pendulum_format_is_read(tmp_path: Path) -> None:
    t = np.linspace(0, 5, 51)
    angle, speed = np.cos(t), -np.sin(t)
    rows = [f"1 {a:.6f} {b:.6f} {c:.6f} {c:.6f} {-b:.6f}" for a, b, c in zip(t, angle, speed, strict=True)]
    file = tmp_path / "real_pend_h_1.txt"
    file.write_text("% o w\n" + "\n".join(rows) + "\n")
    motion = read_pendulum(file)
    assert motion.states.shape == (1, 50, 2)
    assert torch.allclose(motion.states[0, :, 0], torch.as_tensor(angle[:-1]), atol=1e-6)
    assert torch.allclose(motion.derivatives[0, :, 0], torch.as_tensor(np.diff(angle) / 0.1), atol=1e-4)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("% o w\n1 0.0 1 2 3 4\n1 0.1 x 2 3 4\n1 0.2 1 2 3 4\n", FileError, "line 3"),
        ("% o w\n1 0.0 1 2 3 4\n1 0.1 1 2 3\n1 0.2 1 2 3 4\n", FileError, "5 columns, not 6"),
        ("% o w\n1 0.0 1 2 3 4\n1 0.2 1 2 3 4\n1 0.1 1 2 3 4\n", DataError, "times do not rise"),
        ("% o w\n1 0.0 1 2 3 4\n1 0.1 nan 2 3 4\n1 0.2 1 2 3 4\n", DataError, "not finite"),
        ("% o w\n", FileError, "0 rows"),
    ],
)
def test_broken_recording_is_named(tmp_path: Path, text: str, error: type[Exception], message: str) -> None:
    file = tmp_path / "broken.txt"
    file.write_text(text)
    with pytest.raises(error, match=message):
        read_pendulum(file)


def test_missing_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot read the pendulum recording"):
        read_pendulum(tmp_path / "absent.txt")


def test_trajectories_of_unequal_length_are_named() -> None:
    with pytest.raises(DataError, match="trajectory 1 has shape"):
        from_arrays([np.zeros((5, 2)), np.zeros((4, 2))], np.arange(5.0))


def test_recorded_states_that_are_not_finite_are_named() -> None:
    bad = np.zeros((5, 2))
    bad[3, 1] = np.inf
    with pytest.raises(DataError, match=r"index \(1, 3, 1\)"):
        from_arrays([np.zeros((5, 2)), bad], np.arange(5.0))


def write(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def test_trajectories_of_an_npz_are_those_that_were_written(tmp_path: Path) -> None:
    motion = generate(TwoBody(), trajectories=3, points=11, span=2.0)
    arrays = {"times": motion.times.numpy(), "states": motion.states.numpy()}
    measured = read_recording(write(tmp_path / "a.npz", **arrays, derivatives=motion.derivatives.numpy()))
    assert torch.equal(measured.states, motion.states)
    assert torch.equal(measured.derivatives, motion.derivatives)
    differences = read_recording(write(tmp_path / "b.npz", **arrays))
    assert differences.states.shape == (3, 10, 8)
    assert (
        (differences.derivatives - motion.derivatives[:, :-1]).abs().max()
        < 0.2
        < motion.derivatives.abs().max()
    )
    alone = read_recording(write(tmp_path / "c.npz", times=arrays["times"], states=arrays["states"][0]))
    assert torch.equal(alone.states, differences.states[:1])


TIMES, STATES = np.arange(6.0), np.zeros((2, 6, 2))


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ({"times": TIMES}, FileError, "no array 'states'.*it has: times"),
        (
            {"times": TIMES[:5], "states": STATES},
            DataError,
            r"trajectory 0 has shape \(6, 2\), not \(5, 2\) \(in .*x.npz",
        ),
        ({"times": TIMES[::-1], "states": STATES}, DataError, "times do not rise .*x.npz, time 1"),
        ({"times": TIMES, "states": STATES, "derivatives": STATES[:1]}, DataError, "one derivative a state"),
        ({"times": TIMES, "states": STATES + np.nan}, DataError, "not finite"),
        (
            {"times": TIMES, "states": np.array([np.zeros((6, 2)), np.zeros((4, 2))], dtype=object)},
            FileError,
            "unequal lengths",
        ),
    ],
)
def test_broken_npz_is_named(
    arrays: dict[str, np.ndarray], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        read_recording(write(tmp_path / "x.npz", **arrays))


def test_a_file_that_is_no_npz_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_text("PK no")
    for path in (tmp_path / "x.npz", tmp_path / "absent.npz"):
        with pytest.raises(FileError, match=f"{path.name}"):
            read_recording(path)


def test_command_learns_from_a_recording(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    motion = generate(TwoBody(), trajectories=6, points=11, span=2.0)
    file = write(tmp_path / "orbits.npz", times=motion.times.numpy(), states=motion.states.numpy())
    words = [
        f"data.file={file}",
        "training.steps=3",
        "evaluation.starts=test",
        "animate=false",
        "tracking.enabled=false",
    ]
    words += ["--only", "hnn", "-q", "-o", str(tmp_path / "run")]
    assert main(["dynamics", str(repository / "configs/dynamics/two_body.yaml"), *words]) == 0
    assert "hnn (hnn)" in capsys.readouterr().out
    assert (
        main(["dynamics", str(repository / "configs/dynamics/spring.yaml"), *words[:-1], str(tmp_path / "b")])
        == 2
    )
    assert "states have 8 coordinates, 'spring' has 2" in capsys.readouterr().err
