"""Progress of long work: a line a minute in a log, nothing with -q, nothing beside a command's own bar."""

from __future__ import annotations

from pathlib import Path

import pytest

from hepml import cli, progress
from hepml.cli import watching
from hepml.cli.console import CountingBar, duration, progress_line
from hepml.data.reading.reader import read_jets


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the test sets."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr(cli, "QUIET", False)
    monkeypatch.setattr(cli, "BARS", 0)
    return now


def test_a_log_is_told_once_a_minute_with_the_time_left(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.listening(watching.Watch()):
        for second in range(181):
            clock[0] = second
            progress.tell("entries read", second, 300)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" of")[0] for line in lines] == ["60", "120", "180"]
    assert lines[0] == "60 of 300 entries read, 1.0/s, 4 min 00 s left"


@pytest.mark.parametrize("reason", ["QUIET", "BARS"])
def test_nothing_is_said_when_asked_or_beside_another_bar(
    clock: list[float], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    monkeypatch.setattr(cli, reason, 1)
    with progress.listening(watching.Watch()):
        for second in range(0, 181, 20):
            clock[0] = second
            progress.tell("entries read", second, 300)
    assert capsys.readouterr().err == ""


def test_short_work_says_nothing(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress.listening(watching.Watch()), progress.working("exporting"):
        clock[0] = 1.0
    with CountingBar("jets", 10) as bar:
        clock[0] = 30.0
        bar.update(5)
    assert capsys.readouterr().err == ""
    assert cli.BARS == 0


def test_reading_tells_how_far_it_is(toptag: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    with progress.listening(lambda *step: told.append(step)):
        read_jets(toptag / "test.root", entry_stop=50)
    assert told[0][0] == "entries read"
    assert told[-1] == ("entries read", 50, 50)


def test_times_are_said_as_people_say_them() -> None:
    assert [duration(s) for s in (5, 65, 7500)] == ["5 s", "1 min 05 s", "2 h 05 min"]
    assert progress_line("jets", 100, None, 2.0) == "100 jets, 50/s"
