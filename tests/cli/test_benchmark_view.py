"""What is seen of a benchmark while it runs fits the screen and keeps what matters in sight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from hepml.cli.benchmark_view import View, line, table
from hepml.training.benchmark.workers import Progress


class Planned:
    """What the view needs of a planned run."""

    def __init__(self, name: str) -> None:
        self.name, self.folder = name, Path(name)
        self.config: Any = type("C", (), {"training": type("T", (), {"epochs": 20})})


def runs(**counts: int) -> list[Progress]:
    return [Progress(Planned(f"{s} {i}"), s) for s, n in counts.items() for i in range(n)]  # type: ignore[arg-type]


def text_of(shown: Any) -> list[str]:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(shown)
    return console.export_text().splitlines()


def test_many_runs_fit_the_screen_and_those_that_run_or_failed_stay_in_sight() -> None:
    many = runs(finished=30, running=2, waiting=20, failed=1)
    lines = text_of(table(many, most=8))
    assert len(lines) <= 12
    assert "30 of 53 runs finished" in lines[0]
    shown = "\n".join(lines)
    assert all(word in shown for word in ("running 0", "running 1", "failed 0", "… and 45 more"))


def test_a_line_says_state_epoch_auc_and_reason() -> None:
    (run,) = runs(running=1)
    run.epoch, run.values, run.began = 3, {"val_auc": 0.98123, "jets_per_second": 1234.5}, 0.0
    assert line(run).startswith("running 0: running, epoch 3/20, val_auc 0.9812, 1,234 jets/s, ")
    run.status, run.problem = "failed", "out of memory"
    assert line(run).endswith(": out of memory")


def test_without_a_terminal_each_change_is_one_line(capfd: Any) -> None:
    both = runs(running=1, waiting=1)
    with View() as view:
        view.show(both)
        view.show(both)
        both[1].status = "running"
        view.show(both)
    told = capfd.readouterr().err.splitlines()
    assert [t.partition(":")[0] for t in told] == ["running 0", "waiting 0"]
