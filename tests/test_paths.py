"""Where configs, jets and weights are looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from hepml import paths


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder outside the repository, and an empty data path."""
    monkeypatch.delenv("HEPML_DATA", raising=False)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_the_current_folder_wins_over_the_repository_and_the_data_path(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, repository = tmp_path / "store", tmp_path / "repository"
    for folder in (store, repository, elsewhere):
        folder.mkdir(exist_ok=True)
        (folder / "a.root").touch()
    (repository / "pyproject.toml").touch()
    monkeypatch.setenv("HEPML_DATA", str(store))
    config = repository / "c.yaml"
    assert paths.resolve_path("a.root", config) == str(elsewhere / "a.root")
    (elsewhere / "a.root").unlink()
    assert paths.resolve_path("a.root:tree", config) == str(repository / "a.root") + ":tree"
    (repository / "a.root").unlink()
    assert paths.resolve_path("a.root", config) == str(store / "a.root")
    (store / "a.root").unlink()
    assert paths.resolve_path("a.root", config) == str(
        elsewhere / "a.root"
    )  # reported missing by who opens it


def test_the_data_path_is_searched_in_order_with_subfolders_and_globs(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    (one / "deep" / "er").mkdir(parents=True)
    two.mkdir()
    (one / "deep" / "er" / "w.pt").touch()
    (two / "w.pt").touch()
    monkeypatch.setenv("HEPML_DATA", f"{tmp_path / 'absent'}:{one}:{two}")
    assert paths.on_data_path("w.pt") == one / "deep" / "er" / "w.pt"
    assert paths.on_data_path("w.*") == one / "deep" / "er" / "w.*"
    assert paths.on_data_path("er/w.pt") == one / "deep" / "er" / "w.pt"
    assert paths.on_data_path("v.pt") is None


def test_a_config_is_known_by_name_from_any_folder_and_a_path_wins(elsewhere: Path) -> None:
    named = paths.config_file("toptag/particlenet")
    assert named.is_file()
    assert named.name == "particlenet.yaml"
    assert paths.config_file("configs/quickstart.yaml").is_file()
    (elsewhere / "quickstart").touch()
    assert paths.config_file("quickstart") == Path("quickstart")
    assert paths.config_file("no such") == Path("no such")


def test_a_folder_hides_no_config_of_its_name_unless_it_is_a_run(elsewhere: Path) -> None:
    from hepml.training.run_config import load_run_config

    (elsewhere / "toptag").mkdir()
    (elsewhere / "quickstart").mkdir()
    (elsewhere / "mine.yaml").write_text("base: toptag\nmodel: pfn\n")
    assert load_run_config("mine.yaml").model_name == "pfn"
    assert load_run_config("quickstart").model_name == "particlenet_lite"
    (elsewhere / "quickstart" / "config.yaml").touch()
    assert paths.config_file("quickstart") == Path("quickstart")


def test_every_shipped_config_has_a_name_and_its_training_jets_are_found(elsewhere: Path) -> None:
    from hepml.training.run_config import load_run_config

    names = paths.shipped_configs()
    assert {"quickstart", "toptag/pfn", "cms_btag", "dynamics/spring"} <= names.keys()
    run = load_run_config(Path("quickstart"))
    assert Path(run.data.train).is_file()
