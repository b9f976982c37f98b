"""The journal is whole whatever happens to the process or the disk."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hepml.errors import FileError, TrackingError
from hepml.tracking.journal import FILE_NAME, Journal, is_locked, read_journal


def test_an_entry_can_be_read_as_soon_as_append_returns(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append("metrics", step=3, values={"loss": 0.5})
    record = read_journal(tmp_path)
    assert [(e["kind"], e["step"], e["values"]) for e in record.entries] == [("metrics", 3, {"loss": 0.5})]
    assert record.size == (tmp_path / FILE_NAME).stat().st_size
    journal.close()


def test_a_torn_last_line_is_reported_and_does_not_spoil_the_next_entry(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append("metrics", step=0, values={"loss": 1.0})
    journal.close()
    with (tmp_path / FILE_NAME).open("ab") as file:
        file.write(b'{"kind":"metrics","step":1,"val')
    assert len(read_journal(tmp_path).entries) == 1
    assert read_journal(tmp_path).torn == 1

    journal = Journal(tmp_path)
    journal.append("metrics", step=2, values={"loss": 0.25})
    journal.close()
    record = read_journal(tmp_path)
    assert [e["step"] for e in record.entries] == [0, 2]
    assert record.torn == 1


def test_a_line_that_is_being_written_is_not_taken_before_its_end(tmp_path: Path) -> None:
    Journal(tmp_path).close()
    whole = b'{"kind":"note","time":1,"text":"a"}'
    (tmp_path / FILE_NAME).write_bytes(whole)
    assert read_journal(tmp_path).entries == []
    assert read_journal(tmp_path).size == 0
    (tmp_path / FILE_NAME).write_bytes(whole + b"\n")
    assert len(read_journal(tmp_path).entries) == 1


def test_reading_goes_on_where_an_earlier_reading_ended(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append("note", text="first")
    size = read_journal(tmp_path).size
    journal.append("note", text="zweite, längere")
    journal.close()
    later = read_journal(tmp_path, size)
    assert [e["text"] for e in later.entries] == ["zweite, längere"]
    assert later.ends == [(tmp_path / FILE_NAME).stat().st_size]


def test_lines_are_json_whatever_the_values_are(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(
        "parameters",
        values={
            "numpy": np.float32(0.5),
            "torch": torch.tensor(3),
            "path": Path("a/b"),
            "set": {2, 1},
            "nested": {"inf": float("inf"), "list": [float("nan"), 1]},
        },
    )
    journal.close()

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    (line,) = (tmp_path / FILE_NAME).read_text().splitlines()
    values = json.loads(line, parse_constant=refuse)["values"]
    assert values == {
        "numpy": 0.5,
        "torch": 3,
        "path": "a/b",
        "set": [1, 2],
        "nested": {"inf": "inf", "list": ["nan", 1]},
    }


def test_a_second_writer_is_refused_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import sys, time; from hepml.tracking.journal import Journal\n"
        "j = Journal(sys.argv[1]); j.append('note', text='x'); print('up', flush=True); time.sleep(600)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"up\n"
        assert is_locked(tmp_path)
        with pytest.raises(TrackingError, match="another process"):
            Journal(tmp_path)
    finally:
        other.kill()
        other.wait()
    assert not is_locked(tmp_path)
    Journal(tmp_path).close()


def test_a_full_disk_is_reported_when_the_journal_is_closed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    (tmp_path / FILE_NAME).symlink_to("/dev/full")
    journal = Journal(tmp_path)
    with caplog.at_level(logging.WARNING):
        for step in range(3):
            journal.append("metrics", step=step, values={"loss": 1.0})
    assert sum("kept in memory" in m for m in caplog.messages) == 1
    with pytest.raises(FileError, match="3 entries of the journal could not be written"):
        journal.close()
    assert not is_locked(tmp_path)


def test_entries_of_a_disk_that_was_full_for_a_while_all_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    write = os.write
    room = [20]

    def short_of_room(fd: int, data: bytes) -> int:
        if room[0] <= 0:
            raise OSError(28, "No space left on device")
        taken = write(fd, data[: room[0]])
        room[0] -= taken
        return taken

    monkeypatch.setattr(os, "write", short_of_room)
    journal.append("note", text="half of this fits")
    journal.append("note", text="nothing of this fits")
    assert read_journal(tmp_path).entries == []
    room[0] = 10**6
    journal.append("note", text="there is room again")
    journal.close()
    record = read_journal(tmp_path)
    assert [e["text"] for e in record.entries] == [
        "half of this fits",
        "nothing of this fits",
        "there is room again",
    ]
    assert record.torn == 0
