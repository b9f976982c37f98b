"""Outputs never replace inputs, stand under their name only when whole, and leave nothing behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepml.errors import FileError
from hepml.outputs import building, owning, refuse_inputs, temporary_name, write_bytes, writing


def test_an_output_that_is_an_input_by_any_path_to_it_is_refused(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "jets"
    folder.mkdir()
    jets = folder / "x.root"
    jets.write_bytes(b"jets")
    (tmp_path / "soft.root").symlink_to(jets)
    (tmp_path / "hard.root").hardlink_to(jets)
    (tmp_path / "there").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    words = ["jets/x.root", "jets/*.root", "jets", "jets/**", "soft.root", "hard.root", "there",
             "there/x.root", "jets/x.root:tree", "jets/x.root:dir/tree;1", "test=jets/x.root",
             "test=jets/*.root:tree", ["nothing.root", jets]]  # fmt: skip
    for output in ("jets/x.root", jets, "soft.root", "hard.root", "there/x.root", "./jets/../jets/x.root"):
        for word in words:
            with pytest.raises(FileError, match="the output is one of the inputs"):
                refuse_inputs(output, [word])
    for output in ("jets/new.root", "new.root", None):
        refuse_inputs(output, words)
    refuse_inputs("hard.root", ["root://server//jets/x.root", None, "gone.root", "gone/*.root"])


def test_scores_inside_a_run_folder_may_be_written_again_and_its_own_files_may_not(tmp_path: Path) -> None:
    for name in ("config.yaml", "summary.json", "scores/mine.npz", "checkpoints/best.ckpt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    refuse_inputs(tmp_path / "scores/mine.npz", [tmp_path])
    for name in ("config.yaml", "summary.json", "checkpoints/best.ckpt"):
        with pytest.raises(FileError, match="one of the inputs"):
            refuse_inputs(tmp_path / name, [tmp_path])


def test_a_block_that_fails_leaves_what_stood_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "out.root"
    write_bytes(path, b"old")
    with pytest.raises(FileNotFoundError), writing(path) as temporary:
        temporary.write_bytes(b"ne" + (tmp_path / "missing").read_bytes())
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["out.root"]


def test_a_symbolic_link_keeps_pointing_to_the_file_that_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link.root").symlink_to(tmp_path / "disk" / "real.root")
    write_bytes(tmp_path / "link.root", b"new")
    assert (tmp_path / "link.root").is_symlink()
    assert (tmp_path / "disk" / "real.root").read_bytes() == b"new"


def test_two_writers_of_one_name_never_meet(tmp_path: Path) -> None:
    path = tmp_path / "out.root"
    with writing(path) as temporary:
        temporary.write_bytes(b"first")
        with pytest.raises(FileError, match="another process is writing this file"), writing(path):
            pass
    assert path.read_bytes() == b"first"


def test_many_writers_that_wait_leave_one_of_their_files_whole(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    path = tmp_path / "out.bin"
    contents = [bytes([number]) * 50_000 for number in range(8)]
    writers = [context.Process(target=write_bytes, args=(path, content)) for content in contents]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
    assert [writer.exitcode for writer in writers] == [0] * 8
    assert path.read_bytes() in contents
    assert [p.name for p in tmp_path.iterdir()] == ["out.bin"]


def _write_for_ever(path: Path, kind: str) -> None:
    with building(path) if kind == "folder" else writing(path) as temporary:
        assert temporary is not None
        (temporary / "a.bin" if kind == "folder" else temporary).write_bytes(b"half")
        time.sleep(60)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_writer_left_is_gone_after_the_next(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("out.root" if kind == "file" else "cache")
    writer = multiprocessing.get_context("fork").Process(target=_write_for_ever, args=(path, kind))
    writer.start()
    while not any(p.name.endswith((".tmp", ".tmp.root")) for p in tmp_path.rglob("*")):
        time.sleep(0.01)
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert not path.exists()
    assert len(list(tmp_path.iterdir())) == 2  # the temporary and the lock
    (tmp_path / ".other.root.1.tmp").write_text("not ours")
    if kind == "file":
        (tmp_path / ".out.4711.tmp.root").write_text("left by hepml 1.0")
        write_bytes(path, b"whole")
    else:
        with building(path) as partial:
            assert partial is not None
    assert sorted(p.name for p in tmp_path.iterdir()) == [".other.root.1.tmp", path.name]


def test_leftovers_of_other_caches_are_swept_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    dead, alive = tmp_path / "0dead", tmp_path / "0alive"
    temporary_name(dead).mkdir()
    with owning(alive):
        mine = temporary_name(alive)
        mine.mkdir()
        with building(tmp_path / "0other"):
            pass
        assert mine.is_dir()
    assert sorted(p.name for p in tmp_path.iterdir() if p != mine) == ["0other"]


@given(mask=st.sampled_from([0o002, 0o022, 0o027, 0o077]))
def test_files_and_folders_are_readable_by_whom_the_umask_says(mask: int, tmp_path_factory) -> None:
    place = tmp_path_factory.mktemp("modes")
    before = os.umask(mask)
    try:
        write_bytes(place / "file", b"x")
        with building(place / "cache") as partial:
            assert partial is not None
            (partial / "a.bin").write_bytes(b"x")
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE((place / name).stat().st_mode) for name in ("file", "cache", "cache/a.bin")}
    assert modes == {"file": 0o666 & ~mask, "cache": 0o777 & ~mask, "cache/a.bin": 0o666 & ~mask}


def test_a_folder_of_inputs_is_no_output_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    refuse_inputs(tmp_path / "data", [str(tmp_path)])  # beside other files it is allowed
    with pytest.raises(FileError, match="one of the inputs"):
        refuse_inputs(tmp_path / "data", [str(tmp_path / "data")])


def test_a_second_network_does_not_take_the_preprocessing_of_the_first(tmp_path: Path) -> None:
    from hepml.inference.exporting.preprocess import Preprocess

    one, other = Preprocess({}, ("a",)), Preprocess({}, ("b",))
    (tmp_path / "one.onnx").touch()
    one.write(tmp_path / "preprocess.json", of=tmp_path / "one.onnx")
    with pytest.raises(FileError, match=r"belongs to one\.onnx"):
        other.write(tmp_path / "preprocess.json", of=tmp_path / "other.onnx")
    other.write(tmp_path / "preprocess.json", of=tmp_path / "one.onnx")  # the same network anew
