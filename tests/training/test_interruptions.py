"""Runs that are interrupted: signals at any time, checkpoints by the clock, a lock that comes before
everything, and an epoch that is reported once whenever the process dies."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from stopping import StopAt

from hepml import interrupts
from hepml.errors import HepmlError
from hepml.tracking.journal import read_journal, take_lock
from hepml.training import callbacks, run
from hepml.training.callbacks import Killed
from hepml.training.progress import Progress
from hepml.training.run import train
from hepml.training.run_config import RunConfig

Tiny = Callable[..., RunConfig]


@pytest.mark.parametrize("signum", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM])
def test_every_signal_that_asks_for_an_end_leaves_a_checkpoint(
    tiny: Tiny, tmp_path: Path, signum: signal.Signals
) -> None:
    with pytest.raises(Killed) as stop:
        train(tiny(), tmp_path / "run", progress=StopAt(0, 2, signum))
    assert stop.value.signum == signum
    assert (tmp_path / "run/checkpoints/last.ckpt").is_file()


def test_a_signal_that_this_process_was_started_to_ignore_is_ignored() -> None:
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        assert signal.SIGUSR2 not in callbacks.watched()
        assert signal.SIGTERM in callbacks.watched()
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_signal_during_start_up_ends_the_run_at_once(tiny: Tiny, tmp_path: Path) -> None:
    class Stop(Progress):
        def message(self, text: str) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Killed):
        train(tiny(), tmp_path / "run", progress=Stop())
    assert not (tmp_path / "run").exists(), "jets were being read"


def test_an_interrupt_that_was_lost_while_modules_were_imported_ends_the_run_before_it_starts(
    tiny: Tiny, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Libraries that catch everything while they import something, and callbacks, lose KeyboardInterrupt."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with interrupts.noting():
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(Killed) as stop:
            train(tiny(), tmp_path / "run")
    assert stop.value.signum == signal.SIGINT
    assert not (tmp_path / "run").exists()
    assert not interrupts.received()


def test_a_signal_while_test_jets_are_scored_ends_the_run_and_a_resumed_one_scores_them(
    tiny: Tiny, tmp_path: Path
) -> None:
    class Stop(Progress):
        def scoring(self, name: str, done: int, jets: int) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Killed):
        train(tiny(), tmp_path / "run", progress=Stop())
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "KILLED"
    assert train(tiny(), tmp_path / "run", resume=True)["epochs"] == 3


def test_checkpoints_are_written_by_the_clock(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    keep = callbacks.RunKeeper._save

    def save(self: Any, trainer: Any, name: str) -> None:
        names.append(name)
        keep(self, trainer, name)

    monkeypatch.setattr(callbacks.RunKeeper, "_save", save)
    train(tiny("training.epochs=1"), tmp_path / "seldom")
    assert names.count("last.ckpt") == 1, "at the end of the epoch"
    names.clear()
    train(tiny("training.epochs=1", "training.checkpoint_minutes=1e-9"), tmp_path / "often")
    assert names.count("last.ckpt") > 3


def test_a_second_process_writes_nothing_into_a_live_run(tiny: Tiny, tmp_path: Path) -> None:
    train(tiny("training.epochs=1"), tmp_path / "run")
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file() and p.suffix != ".lock"}
    lock = take_lock(tmp_path / "run")
    try:
        with pytest.raises(HepmlError, match="another process"):
            train(tiny("training.epochs=2"), tmp_path / "run", resume=True)
    finally:
        lock.release()
    after = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file() and p.suffix != ".lock"}
    assert after == before


def test_an_epoch_whose_report_was_cut_off_is_reported_once(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies between the checkpoint of an epoch and its line in the journal."""

    class Died(BaseException):
        pass

    class Deaf:
        def __init__(self, tracker: Any) -> None:
            self.tracker = tracker

        def __getattr__(self, name: str) -> Any:
            return getattr(self.tracker, name)

        def metrics(self, values: Mapping[str, float], step: int) -> None:
            if step == 1:
                raise Died
            self.tracker.metrics(values, step)

    start = run._start_tracking
    with monkeypatch.context() as patch:
        patch.setattr(run, "_start_tracking", lambda *a: Deaf(start(*a)))
        with pytest.raises(Died):
            train(tiny(), tmp_path / "run")
    train(tiny(), tmp_path / "run", resume=True)
    entries = read_journal(tmp_path / "run").of("metrics")
    for name in ("epoch_seconds", "jets_per_second", "val_loss"):
        steps = [entry["step"] for entry in entries if name in entry["values"]]
        assert steps == [0, 1, 2], name


def test_the_summary_counts_ranks_and_jets(tiny: Tiny, tmp_path: Path) -> None:
    summary = train(tiny("training.epochs=1"), tmp_path / "run")
    assert (summary["ranks"], summary["jets_per_epoch"]) == (1, summary["jets"]["train"])
