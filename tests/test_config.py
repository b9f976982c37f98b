"""Configs: what composes, what is refused, and that every refusal is one line with file, key path and
mend."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hepml import config as configs
from hepml import paths
from hepml.config import Config, Schema
from hepml.errors import ConfigError, HepmlError, ModelError
from hepml.training import run_config
from hepml.training.run_config import load_run_config
from hepml.training.run_schema import run_schema

MINIMAL = "data: {train: jets.root}\nmodel: {name: pfn}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(MINIMAL)
    return path


def test_a_minimal_config_has_the_documented_defaults(file: Path) -> None:
    run = load_run_config(file)
    assert (run.model_name, run.objective_name, run.name) == ("pfn", "categorical", "run")
    assert run.training.epochs == 20
    assert run.tracking.enabled


def test_numbers_in_scientific_notation_are_numbers(file: Path) -> None:
    file.write_text(MINIMAL + "training: {learning_rate: 1e-3, weight_decay: 5.e-2}\n")
    run = load_run_config(file, ["training.gradient_clip=1e1"])
    assert (run.training.learning_rate, run.training.weight_decay, run.training.gradient_clip) == (
        1e-3,
        0.05,
        10.0,
    )


def test_a_config_is_laid_over_its_base(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text(
        "data: {train: a.root, val: b.root}\ntraining: {epochs: 3, seed: 7}\n"
    )
    (tmp_path / "sub").mkdir()
    top = tmp_path / "sub" / "pfn.yaml"
    top.write_text("base: ../data.yaml\nmodel: {name: pfn}\ntraining: {epochs: 5}\n")
    run = load_run_config(top)
    assert (run.training.epochs, run.training.seed) == (5, 7)
    assert run.data.val.endswith("b.root")


def test_a_mapping_is_laid_over_its_base_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text("data: {train: a.root}\nmodel: {name: pfn}\ntraining: {seed: 7}\n")
    monkeypatch.chdir(tmp_path)
    for base, seed in (("mine.yaml", 7), ("toptag/pfn", 0)):  # a path, a config that comes with hepml
        given = {"base": base, "training": {"epochs": 5}}
        run = run_config.check(run_config.compose(given))
        assert (run.training.epochs, run.training.seed, run.model["name"]) == (5, seed, "pfn")
        assert given == {"base": base, "training": {"epochs": 5}}
    with pytest.raises(ConfigError, match="toptag/pfn"):
        run_config.compose({"base": "toptag/pfm"})
    with pytest.raises(ConfigError, match=r"base should be a path, not 3 \(in config, base\)"):
        run_config.compose({"base": 3})


def test_another_model_does_not_inherit_the_bases_hyperparameters(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("data: {train: a.root}\nmodel: {name: particlenet, neighbours: 7}\n")
    same, other = tmp_path / "same.yaml", tmp_path / "other.yaml"
    same.write_text("base: base.yaml\nmodel: {name: particlenet, dropout: 0.2}\n")
    other.write_text("base: base.yaml\nmodel: {name: pfn}\n")
    assert load_run_config(same).hyperparameters == {"neighbours": 7, "dropout": 0.2}
    assert load_run_config(other).hyperparameters == {}


def test_a_base_that_includes_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: b.yaml\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\n")
    with pytest.raises(ConfigError, match="includes itself"):
        configs.load(tmp_path / "a.yaml")


def test_overrides_reach_any_depth_and_win_over_the_file(file: Path) -> None:
    run = load_run_config(
        file, ["training.epochs=2", "model.dropout=0.3", "data.test.real=r.npz", "objective=bernoulli"]
    )
    assert run.training.epochs == 2
    assert run.hyperparameters == {"dropout": 0.3}
    assert list(run.data.tests()) == ["real"]
    assert run.objective_name == "bernoulli"


def test_an_objective_without_a_name_is_the_usual_one(file: Path) -> None:
    run = load_run_config(file, ["objective.label_smoothing=0.1"])
    assert (run.objective_name, run.objective_arguments) == ("categorical", {"label_smoothing": 0.1})


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.epoch=3", ["unknown key 'epoch'", "training.epoch", "did you mean 'epochs'"]),
        ("trainin.epochs=3", ["unknown key 'trainin'", "did you mean 'training'"]),
        ("data.trian=x.root", ["unknown key 'trian'", "data.trian", "'train'"]),
        ("model.dropot=0.1", ["unknown key 'dropot'", "model.dropot", "'dropout'"]),
        ("model.outputs=3", ["unknown key 'outputs'", "follows from the data"]),
        ("model.name=pfnn", ["unknown model 'pfnn'", "model.name", "'pfn'"]),
        ("model.dropout=much", ["model.dropout", "a valid number", "'much'"]),
        ("objective=gauss", ["unknown objective 'gauss'", "'gaussian'"]),
        ("objective.label_smoothin=0.1", ["unknown key 'label_smoothin'", "'label_smoothing'"]),
        ("training.epochs=ten", ["training.epochs", "a valid integer", "'ten'"]),
        ("training.epochs=1.5", ["training.epochs", "a valid integer", "1.5"]),
        ("training.epochs=true", ["training.epochs", "a valid integer", "true"]),
        ("training.epochs=0", ["training.epochs", "greater than or equal to 1"]),
        ("training.learning_rate=-1", ["training.learning_rate", "greater than 0"]),
        ("training.schedule=cosin", ["training.schedule", "did you mean 'cosine'"]),
        ("training.augment=[rotate]", ["training.augment", "rotate_phi"]),
        ("training=3", ["training", "mapping", "3"]),
        ("data.target=jet_sdmass", ["epochs"]),
        ("epochs", ["'epochs' is not an override", "key.sub=value"]),
        ("=3", ["not an override"]),
        ("training.seed={", ["not valid YAML", "command line, training.seed"]),
    ],
)
def test_a_wrong_override_is_refused_in_one_line_that_names_it(
    file: Path, override: str, words: list[str]
) -> None:
    extra = []
    if override.startswith("data.target"):
        extra, words = ["objective=categorical"], ["classification", "data.target"]
    with pytest.raises(HepmlError) as caught:
        load_run_config(file, [override, *extra])
    text = str(caught.value)
    assert "\n" not in text
    assert "command line" in text
    for word in words:
        assert word in text


def test_an_error_names_the_file_in_which_the_key_stands(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("data: {train: a.root}\ntraining: {epoch: 3}\n")
    top = tmp_path / "top.yaml"
    top.write_text("base: base.yaml\nmodel: {name: pfn}\ntraining: {seed: 1}\n")
    with pytest.raises(ConfigError, match=r"base\.yaml, training\.epoch"):
        load_run_config(top)


def test_broken_yaml_is_refused_with_its_line(file: Path) -> None:
    file.write_text("data: {train: a.root\nmodel: {name: pfn}\n")
    with pytest.raises(ConfigError, match=r"not valid YAML.*line 2"):
        load_run_config(file)


def test_a_key_given_twice_is_refused(file: Path) -> None:
    file.write_text(MINIMAL + "model: {name: efn}\n")
    with pytest.raises(ConfigError, match="'model' is given twice"):
        load_run_config(file)


def test_a_missing_config_names_the_nearest_file(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"no config file.*did you mean '.*run\.yaml'"):
        load_run_config(file.with_name("rum.yaml"))


def test_a_shipped_config_is_found_outside_a_checkout_and_a_wrong_name_gets_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert configs.load("configs/quickstart.yaml").values == configs.load("quickstart").values
    with pytest.raises(ConfigError, match="did you mean the config 'quickstart'"):
        configs.load("configs/quickstrat.yaml")


def test_a_missing_key_is_named(file: Path) -> None:
    file.write_text("model: {name: pfn}\n")
    with pytest.raises(ConfigError, match="missing key 'data'"):
        load_run_config(file)


def test_an_unknown_model_in_a_file_is_a_model_error_that_names_the_file(file: Path) -> None:
    file.write_text("data: {train: a.root}\nmodel: {name: particlnet}\n")
    with pytest.raises(ModelError, match=r"run\.yaml, model\.name.*'particlenet'"):
        load_run_config(file)


def test_the_auc_of_a_regression_cannot_be_monitored(file: Path) -> None:
    with pytest.raises(ConfigError, match="val_auc means nothing"):
        load_run_config(file, ["data.target=jet_mass", "training.monitor=val_auc"])


def test_relative_paths_are_taken_from_the_current_folder_then_from_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, here = tmp_path / "repository", tmp_path / "here"
    for folder in (repository / "configs", repository / "data", here / "data"):
        folder.mkdir(parents=True)
    (repository / "pyproject.toml").touch()
    for name in ("both.root", "mine.root"):
        (here / "data" / name).touch()
    for name in ("both.root", "theirs.root"):
        (repository / "data" / name).touch()
    config = repository / "configs" / "run.yaml"
    config.write_text(
        "data: {train: [data/both.root, 'data/theirs.root:tree'], val: data/mine.root}\nmodel: {name: pfn}\n"
    )
    monkeypatch.chdir(here)
    run = load_run_config(config)
    assert run.data.train == [str(here / "data/both.root"), f"{repository / 'data/theirs.root'}:tree"]
    assert run.data.val == str(here / "data/mine.root")
    assert paths.resolve_path("data/t*.root", config) == str(repository / "data/t*.root")
    assert paths.resolve_path("root://host//file.root", config) == "root://host//file.root"


def test_written_yaml_reads_back_to_the_same_values() -> None:
    values = {
        "a": 1e-05,
        "b": "1e-5",
        "c": [1, 2.0, None, True],
        "d": {"e": "yes", "f": "it: is"},
        "g": "0.1",
    }
    assert configs.parse_yaml(configs.dump_yaml(values), "test") == values


def test_a_schema_comes_from_a_constructors_signature() -> None:
    class Thing:
        def __init__(
            self, outputs: int, width: int = 3, *, share: float = 0.5, names: tuple[str, ...] = ()
        ) -> None: ...

    schema = configs.signature_schema(Thing, "thing", leave_out=("outputs",))
    assert set(schema.model_fields) == {"width", "share", "names"}
    read = configs.validate(schema, Config({"width": 4, "names": ["a"]}))
    assert read.model_dump() == {"width": 4, "share": 0.5, "names": ("a",)}
    with pytest.raises(ConfigError, match=r"width should be a valid integer, not 'x'"):
        configs.validate(schema, Config({"width": "x"}))


def test_a_wrong_item_of_a_list_is_named_by_its_place() -> None:
    class Listed(Schema):
        widths: list[int]

    with pytest.raises(ConfigError, match=r"widths\.1 should be a valid integer, not 'b'"):
        configs.validate(Listed, Config({"widths": [1, "b"]}))


def test_the_json_schema_lists_every_model_with_its_hyperparameters() -> None:
    from hepml import models

    schema = run_schema()
    for name in models.registry():
        block = schema["$defs"][f"model_{name}"]
        assert block["additionalProperties"] is False
        assert "outputs" not in block["properties"]
    assert "neighbours" in schema["$defs"]["model_particlenet"]["properties"]
    refs = set(re.findall(r"#/\$defs/(\w+)", str(schema)))
    assert refs <= set(schema["$defs"])


def shipped() -> list[Path]:
    """Configs of training runs (dynamics has a schema of its own, layouts are no configs)."""
    found = sorted((Path(__file__).resolve().parents[1] / "configs").rglob("*.yaml"))
    return [path for path in found if path.parent.name not in ("dynamics", "layouts")]


@pytest.mark.parametrize("path", shipped(), ids=lambda p: p.stem)
def test_every_shipped_config_is_valid(path: Path) -> None:
    values = configs.load(path).values
    if "model" not in values:
        pytest.fail(f"{path} names no model") if path.parent.name != "configs" else None
        return
    assert load_run_config(path).model_name


@pytest.mark.parametrize("path", shipped(), ids=lambda p: p.stem)
def test_no_shipped_config_has_a_personal_path(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"(?:^|[\s:'\"\[])(?:/|~|[A-Z]:\\)\w", text), (
        "absolute paths work on one machine only"
    )


def test_there_are_shipped_configs() -> None:
    assert {"quickstart", "toptag", "particlenet", "cms_btag", "jet_mass"} <= {p.stem for p in shipped()}
