"""`hepml configs`, and training by the name of a config from any folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hepml.cli.main import main
from hepml.paths import shipped_configs


def test_configs_are_listed_with_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows.keys() == shipped_configs().keys()
    assert all(row["title"] for row in rows.values()), [n for n, r in rows.items() if not r["title"]]
    assert "AUC" in rows["toptag/pfn"]["measured"]


def test_a_copy_means_the_same_run_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hepml.training.run_config import load_run_config

    monkeypatch.chdir(tmp_path)
    assert main(["configs", "copy", "toptag/pfn"]) == 0
    assert "pfn.yaml" in capsys.readouterr().out
    ours, theirs = load_run_config(tmp_path / "pfn.yaml"), load_run_config(shipped_configs()["toptag/pfn"])
    assert ours.model_dump() == theirs.model_dump()
    assert main(["configs", "copy", "toptag/pfn"]) == 2  # not overwritten
    assert main(["configs", "copy", "toptag/pnf"]) == 2
    assert "toptag/pfn" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_a_copy_of_every_config_finds_its_base(name: str, tmp_path: Path) -> None:
    from hepml.config import load

    target = tmp_path / "copy.yaml"
    assert main(["configs", "copy", name, "-o", str(target)]) == 0
    assert yaml.safe_load(target.read_text())
    assert load(target).values == load(shipped_configs()[name]).values


def test_absent_training_jets_are_refused_with_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEPML_DATA", raising=False)
    assert main(["train", "cms_btag", "-q", "-o", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert "get them: " in told
    assert "HEPML_DATA is not set" in told


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hepml", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("hepml ")
