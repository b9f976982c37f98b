"""The command line itself: what it imports, what it says, and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hepml.cli import main as module
from hepml.errors import DataError

Run = Callable[..., Any]
HEAVY = ("torch", "lightning", "mlflow", "matplotlib", "awkward", "uproot", "pandas", "scipy", "sklearn")
EXISTING = [name for name, place in module.COMMANDS.items() if module._exists(place)]


@pytest.mark.parametrize("words", [[], *([name] for name in EXISTING)], ids=["hepml", *EXISTING])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys; from hepml.cli.main import main; code = main(sys.argv[1:]);"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words, "--help"], capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"
    assert "Usage" in done.stdout


def test_the_commands_of_the_spine_are_there(hepml: Run) -> None:
    said = hepml("--help").out
    for name in ("generate", "inspect", "train", "evaluate", "predict", "models", "runs"):
        assert name in said


def test_the_version_is_that_of_the_package(hepml: Run) -> None:
    import hepml as package

    assert hepml("--version").out.strip() == f"hepml {package.__version__}"


@pytest.mark.parametrize(
    ("words", "hint"),
    [(["trian"], "train"), (["train", "--otput", "x"], "--output"), (["predict", "x"], "FILES")],
)
def test_a_mistyped_command_line_is_one_line_with_exit_code_2(
    hepml: Run, words: list[str], hint: str
) -> None:
    result = hepml(*words)
    assert result.code == 2
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert hint.lower() in result.err.lower()


def fail_with(problem: BaseException) -> Callable[..., None]:
    def command() -> None:
        raise problem

    return command


@pytest.mark.parametrize(
    ("problem", "code", "words"),
    [
        (DataError("no jets", where="f.root", mend="give some"), 2, "error: no jets (in f.root): give some"),
        (ZeroDivisionError("division\nby zero"), 1, "defect of hepml: ZeroDivisionError: division by zero"),
        (KeyboardInterrupt(), 130, ""),
        (MemoryError(), 2, "out of memory"),
    ],
)
def test_each_kind_of_error_has_its_exit_code_and_one_line(
    hepml: Run, monkeypatch: pytest.MonkeyPatch, problem: BaseException, code: int, words: str
) -> None:
    monkeypatch.setattr("hepml.cli.models.command", fail_with(problem))
    result = hepml("models")
    assert result.code == code
    assert words in result.err
    assert result.err.count("\n") <= 1
    assert "Traceback" not in result.err


def test_debug_shows_the_traceback_wherever_it_stands(hepml: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hepml.cli.models.command", fail_with(DataError("no jets")))
    for words in (["--debug", "models"], ["models", "--debug"]):
        with pytest.raises(DataError):
            hepml(*words)


def test_the_console_script_ends_with_the_exit_code() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hepml.cli.main", "trian"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""


def test_models_lists_every_model_with_its_published_size(hepml: Run) -> None:
    rows = json.loads(hepml("models", "--json").out)
    assert all(set(row) == {"name", "parameters", "paper", "symmetries"} for row in rows)
    sizes = {row["name"]: row["parameters"] for row in rows}
    assert sizes["particlenet"] == 366_160
    assert sizes["pfn"] == 82_458
    assert sizes["efn"] == 82_358
    table = hepml("models")
    assert table.code == 0
    for name in sizes:
        assert name in table.out


def test_the_command_alone_shows_its_help_and_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert module.main([]) == 2
    shown = capsys.readouterr()
    assert "train" in shown.out + shown.err
    assert "error" not in shown.err


@pytest.mark.parametrize("command", ["train", "evaluate", "predict"])
def test_jets_where_a_config_or_a_run_belongs_are_named_as_such(
    command: str, toptag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-o", str(tmp_path / "s.root")] if command == "predict" else []
    assert (
        module.main(
            [command, str(toptag / "val.root"), *(["x.root"] if command == "predict" else []), *words]
        )
        == 2
    )
    told = capsys.readouterr().err
    assert "holds jets" in told
    assert f"hepml {command}" in told


def test_a_run_to_resume_that_is_not_there_is_called_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert module.main(["train", "runs/x", "--resume"]) == 2
    assert "no run here (in runs/x)" in capsys.readouterr().err


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_written(
    toptag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert module.main(["train", "quickstart", "training.device=cuda", "-o", str(tmp_path / "run")]) == 2
    assert "no CUDA device" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_mend_names_each_candidate_once() -> None:
    from hepml.errors import did_you_mean

    assert did_you_mean("jet_pd", ["jet_pt", "jet_pt"]) == "did you mean 'jet_pt'?"


def test_every_command_takes_json_and_quiet() -> None:
    import typer

    def leaves(command: Any, name: str) -> list[tuple[str, set[str]]]:
        inner = getattr(command, "commands", {})
        found = [leaf for key, part in inner.items() for leaf in leaves(part, f"{name} {key}")]
        if not inner or command.invoke_without_command:
            found.append((name, {word for p in command.params for word in getattr(p, "opts", [])}))
        return found

    for name, options in leaves(module.with_quiet(typer.main.get_command(module.build())), "hepml"):
        assert {"--json", "--quiet", "-q"} <= options, name
