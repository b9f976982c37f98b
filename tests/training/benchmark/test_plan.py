"""Which runs a benchmark has and what becomes of those that are there: kept, resumed, begun anew; nothing is
overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from hepml.errors import ConfigError, FileError
from hepml.training.benchmark.plan import (
    Fraction,
    find_runs,
    parse_fractions,
    plan,
    prepare,
    prepared,
    read_mark,
    state,
)
from hepml.training.config_digest import digest


def test_every_config_gets_every_seed_in_a_folder_of_its_own(configs: list[Path], tmp_path: Path) -> None:
    runs = plan(configs, tmp_path / "board", seeds=[1, 2], overrides=["training.epochs=5"])
    assert [run.name for run in runs] == ["pfn seed 1", "pfn seed 2", "efn seed 1", "efn seed 2"]
    assert len({run.folder for run in runs}) == 4
    assert [run.config.training.seed for run in runs] == [1, 2, 1, 2]
    assert {run.config.training.epochs for run in runs} == {5}
    assert {run.config.data.cache for run in runs} == {str(tmp_path / "board" / "jets")}


def test_all_jets_are_one_and_the_same_run_with_and_without_shares(
    configs: list[Path], tmp_path: Path
) -> None:
    shares = plan(configs[:1], tmp_path, fractions=[Fraction(0.05, 200), Fraction(1.0)])
    (whole,) = plan(configs[:1], tmp_path)
    assert shares[0].config.data.train_share == 0.05
    assert shares[0].config.training.epochs == 200
    assert shares[0].name == "pfn 5 % seed 1"
    assert (shares[1].folder, digest(shares[1].config)) == (whole.folder, digest(whole.config))


def test_variations_are_taggers_of_their_own(configs: list[Path], tmp_path: Path) -> None:
    runs = plan(
        configs[:1],
        tmp_path,
        variations={"training.batch_size": ["50", "100"], "training.epochs": ["1", "2"]},
    )
    assert [run.label for run in runs] == [
        f"pfn,batch_size={b},epochs={e}" for b in (50, 100) for e in (1, 2)
    ]
    assert [run.config.training.batch_size for run in runs] == [50, 50, 100, 100]
    (dotted,) = plan(configs[:1], tmp_path, variations={"training.learning_rate": ["0.5"]})
    assert dotted.label == "pfn,learning_rate=0.5"


def test_two_configs_of_one_name_do_not_share_a_folder(configs: list[Path], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other" / "pfn.yaml"
    twin.write_text(configs[0].read_text())
    assert [run.label for run in plan([configs[0], twin], tmp_path)] == ["pfn", "pfn-2"]


def test_only_what_can_change_the_result_changes_the_digest(configs: list[Path], tmp_path: Path) -> None:
    def of(*overrides: str, threads: int | None = None) -> str:
        return digest(plan(configs[:1], tmp_path, overrides=overrides, threads=threads)[0].config)

    same = [
        "tracking.enabled=true",
        "training.threads=3",
        "data.cache=null",
        "training.device=auto",
        "output=elsewhere",
    ]
    assert {of(word) for word in same} == {of()} == {of(threads=2)}
    other = ["training.epochs=2", "model.f=[9]", "training.precision=64", "data.max_jets=50"]
    assert len({of(word) for word in other} | {of()}) == 5


def test_other_jets_under_the_same_name_are_another_run(
    configs: list[Path], toy_files: dict[str, Path], tmp_path: Path
) -> None:
    copy = tmp_path / "train.root"
    copy.write_bytes(toy_files["train"].read_bytes())
    (before,) = plan(configs[:1], tmp_path, overrides=[f"data.train={copy}"])
    was = digest(before.config)
    copy.write_bytes(toy_files["val"].read_bytes())
    assert digest(before.config) != was


def test_another_layout_plugin_or_teacher_under_the_same_name_is_another_run(
    configs: list[Path], tmp_path: Path
) -> None:
    layout, plugin, weights = tmp_path / "mine.yaml", tmp_path / "mine.py", tmp_path / "run/checkpoints"
    weights.mkdir(parents=True)
    files = {layout: "jet_pt: pt", plugin: "A = 1", weights / "best.ckpt": "one"}
    for file, text in files.items():
        file.write_text(text)
    words = [
        f"data.layout={layout}", f"plugins=[{plugin}]", f"distill.teacher={{run: {tmp_path}/run}}"
    ]  # fmt: skip
    (run,) = plan(configs[:1], tmp_path / "board", overrides=words)
    seen = {digest(run.config)}
    for i, file in enumerate(files):
        file.write_text(f"{files[file]}{i}")
        seen.add(digest(run.config))
        seen.add(digest(run.config, results=False))
    assert len(seen) == 7
    assert digest(run.config) == digest(run.config)


def test_a_plugin_that_is_named_as_a_module_is_seen_too(
    configs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_plugin.py").write_text("A = 1")
    (run,) = plan(configs[:1], tmp_path / "board", overrides=["plugins=[my_plugin]"])
    was = digest(run.config)
    (tmp_path / "my_plugin.py").write_text("A = 2")
    assert digest(run.config) != was


def test_a_finished_run_is_kept_and_one_of_another_config_is_put_aside(
    configs: list[Path], tmp_path: Path
) -> None:
    (run,) = plan(configs[:1], tmp_path)
    assert prepare(run) == "new"
    (run.folder / "config.yaml").write_text("")
    assert state(run) == "started"
    (run.folder / "summary.json").write_text('{"test": {}}')
    assert prepare(run) == state(run) == "finished"
    (changed,) = plan(configs[:1], tmp_path, overrides=["training.epochs=7"])
    assert state(changed) == "new"
    assert prepare(changed) == "new"
    assert not (run.folder / "summary.json").exists(), "the folder belongs to the new config"
    (aside,) = run.folder.parent.glob("seed_1.before-*")
    assert (aside / "summary.json").exists(), "and nothing is deleted"
    assert find_runs([tmp_path]) == [run.folder], "what was put aside is not on the leaderboard"


@pytest.mark.parametrize(
    "words", [["data.test.more={val}"], ["data.test.toys={val}"], ["evaluation.signal_efficiencies=[0.4]"]]
)
def test_a_finished_run_with_other_test_jets_is_scored_again_and_not_trained(
    configs: list[Path], toy_files: dict[str, Path], tmp_path: Path, words: list[str]
) -> None:
    (run,) = plan(configs[:1], tmp_path)
    prepare(run)
    leave_a_run(run.folder)
    changed = [word.format(val=toy_files["val"]) for word in words]
    (other,) = plan(configs[:1], tmp_path, overrides=changed)
    (retrained,) = plan(configs[:1], tmp_path, overrides=[*changed, "training.epochs=7"])
    (share,) = plan(configs[:1], tmp_path, overrides=[*changed, "data.test.held_out=0.2"])
    assert (state(run), state(other), state(retrained), state(share)) == ("finished", "trained", "new", "new")
    assert prepare(other) == "trained"
    assert (run.folder / "checkpoints/last.ckpt").exists(), "its weights stay"
    (aside,) = run.folder.glob("earlier/*")
    assert {p.name for p in aside.iterdir()} == {"results.json", "scores", "boost.json"}
    assert not (run.folder / "summary.json").exists(), "what was told is of other jets"
    assert find_runs([tmp_path]) == [run.folder]
    assert state(other) == "started", "a process that is killed before it has scored them leaves no result"
    leave_a_run(run.folder)
    assert state(other) == "finished"


def test_a_killed_run_with_other_test_jets_goes_on(
    configs: list[Path], toy_files: dict[str, Path], tmp_path: Path
) -> None:
    (run,) = plan(configs[:1], tmp_path)
    prepare(run)
    leave_a_run(run.folder)
    (run.folder / "summary.json").unlink()
    (other,) = plan(configs[:1], tmp_path, overrides=[f"data.test.more={toy_files['val']}"])
    assert prepare(other) == "started"


def leave_a_run(folder: Path) -> None:
    """What a finished training leaves, as far as a plan looks at it."""
    for name in ("scores", "checkpoints"):
        (folder / name).mkdir(exist_ok=True)
    for name in ("config.yaml", "scores/toys.npz", "checkpoints/last.ckpt", "boost.json"):
        (folder / name).write_text("")
    (folder / "summary.json").write_text('{"test": {}}')


def test_a_prepared_benchmark_can_be_gone_on_with_without_its_configs(
    configs: list[Path], tmp_path: Path
) -> None:
    runs = plan(
        configs,
        tmp_path / "board",
        seeds=[3],
        overrides=["model.phi=[4, 4]"],
        fractions=[Fraction(0.5), Fraction(1)],
    )
    for run in runs:
        prepare(run)
    again = prepared(tmp_path / "board")
    assert sorted((r.name, r.folder, digest(r.config)) for r in again) == sorted(
        (r.name, r.folder, digest(r.config)) for r in runs
    )
    with pytest.raises(FileError, match="no benchmark"):
        prepared(tmp_path / "nowhere")


def test_a_run_that_decorrelates_is_trained_by_the_background_that_is_evaluated(
    configs: list[Path], tmp_path: Path
) -> None:
    def of(*overrides: str) -> str:
        return digest(plan(configs[:1], tmp_path, overrides=overrides)[0].config, results=False)

    disco, other = "decorrelate={strength: 1.0}", "evaluation.background=QCD"
    assert of() == of(other)
    assert of(disco) != of(disco, other)


def test_what_is_of_no_consequence_is_in_no_digest(configs: list[Path], tmp_path: Path) -> None:
    def of(*overrides: str) -> str:
        return digest(plan(configs[:1], tmp_path, overrides=overrides)[0].config)

    assert of() == of("data.workers=2")
    assert of("distill.teacher.onnx=x.onnx") == of("distill.teacher.onnx=x.onnx", "distill.cache=there")


def test_a_fold_that_no_benchmark_trained_is_known_by_its_config(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"config": "pfn"}')
    (tmp_path / "config.yaml").write_text("data: {train: a.root, folds: 5, fold: 3}\ntraining: {seed: 2}\n")
    assert read_mark(tmp_path) == {"label": "pfn", "seed": 2, "share": 1.0, "fold": 3}


def test_a_run_that_no_benchmark_made_is_known_by_its_summary(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"config": "particlenet", "model": "particlenet"}')
    (tmp_path / "config.yaml").write_text("training: {seed: 4}\n")
    assert read_mark(tmp_path) == {"label": "particlenet", "seed": 4, "share": 1.0}


@pytest.mark.parametrize("text", ["0", "1.5", "a", "0.5:0", "0.5,0.5", ""])
def test_shares_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_fractions(text)


def test_shares_may_have_epochs_of_their_own() -> None:
    assert parse_fractions("0.005:200,0.05,1") == [Fraction(0.005, 200), Fraction(0.05), Fraction(1.0)]


def test_a_regression_and_a_config_without_test_jets_are_refused(configs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="regression"):
        plan(configs[:1], tmp_path, overrides=["data.target=jet_sdmass"])
    with pytest.raises(ConfigError, match="no test jets"):
        plan(configs[:1], tmp_path, overrides=["data.test=null"])
    with pytest.raises(ConfigError, match="twice"):
        plan(configs[:1], tmp_path, seeds=[1, 1])


def test_jets_that_are_streamed_are_not_packed(configs: list[Path], tmp_path: Path) -> None:
    caches = [
        plan(configs[:1], tmp_path, seeds=[1], overrides=words)[0].config.data.cache
        for words in ([], ["data.stream=true"], ["data.cache=null"])
    ]
    assert caches == [str(tmp_path / "jets"), None, None]
